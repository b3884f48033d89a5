"""Deployment: what is published is what runs, and what is rolled out is decided on.

The signed statement is what is wanted; a driver (:mod:`mlnb.deploy.driver`) tells what is there.
:class:`Controller` looks at both and does the next thing that brings them together, as often as it
is asked: it remembers nothing, so it may be killed at any point. ``lease`` lets one work on an
environment at a time; ``preflight`` finds beforehand what would go wrong.
"""

from __future__ import annotations

from mlnb.deployment.controller import Controller, Look
from mlnb.deployment.lease import Lease
from mlnb.deployment.preflight import preflight

__all__ = ["Controller", "Lease", "Look", "preflight"]
