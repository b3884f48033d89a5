"""Serving: a process of its own that answers requests with the version that was promoted.

* The face: ``protocols`` reads requests and renders answers, ``checks`` holds the values against
  the schema, ``limits`` and ``access`` say what is too much and who may; ``app`` puts these on
  routes, which ``openapi`` describes, and ``process`` runs it, with as many workers as are asked.
* What answers: ``engine`` and what it is made of.

Nothing here imports MLflow or papermill; pandas and scikit-learn come with a bundle that has no
compiled scorer, and only then.
"""
