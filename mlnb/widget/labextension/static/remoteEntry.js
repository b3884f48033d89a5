// A JupyterLab extension without a build: this file is what a bundler would have made.
// It shows mlnb's panels; what they show comes from the server, so that it is never older than that.
(() => {
  const need = async (scope, name) => {
    const versions = scope[name];
    const best = versions && Object.keys(versions).sort((a, b) => a.localeCompare(b, undefined, { numeric: true })).at(-1);
    if (!best) throw new Error(`mlnb: JupyterLab shares no ${name}`);
    return (await versions[best].get())();
  };

  const plugin = async (scope) => {
    const [{ Widget }, { ILauncher }, { ICommandPalette }, { ServerConnection }, { LabIcon }, { IDefaultFileBrowser }] = await Promise.all(
      ["@lumino/widgets", "@jupyterlab/launcher", "@jupyterlab/apputils", "@jupyterlab/services", "@jupyterlab/ui-components", "@jupyterlab/filebrowser"].map((name) => need(scope, name)));
    const icon = new LabIcon({
      name: "mlnb:compare",
      svgstr: '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 24 24"><g class="jp-icon3" fill="#616161"><path d="M3 20h18v1.6H3zM4 11h3.4v8H4zM10.3 6h3.4v13h-3.4zM16.6 13H20v6h-3.4z"/><path d="m12 1.6 2.6 3H9.4z"/></g></svg>',
    });
    const settings = ServerConnection.makeSettings();
    const url = (path) => `${settings.baseUrl}mlnb/${path}`;
    const asked = async (path, body) => {
      const answer = await ServerConnection.makeRequest(url(path), body === undefined ? {} : { method: "POST", body: JSON.stringify(body) }, settings);
      if (!answer.ok) {
        const told = await answer.json().catch(() => ({}));
        throw new Error(told.message || `the server answered ${answer.status}`);
      }
      return answer;
    };

    class Panel extends Widget {
      constructor(id, title, show, side) {
        super();
        this.id = id; this.title.label = side ? "" : title; this.title.caption = title; this.title.icon = icon; this.title.closable = !side;
        this.show_ = show;
        this.addClass("jp-mlnb");
        this.node.tabIndex = -1;
      }
      onAfterShow() { this.begin(); }
      onAfterAttach() { if (this.isVisible) this.begin(); }
      begin() { if (!this.begun) { this.begun = true; this.show_(this.node).then((end) => { this.end_ = end; }, (error) => { this.begun = false; this.node.textContent = `mlnb: ${error.message}`; this.node.setAttribute("role", "alert"); }); } }
      dispose() { this.end_?.(); super.dispose(); }
    }

    let style = null;
    const shown = (browser, kind) => async (node) => {
      const path = () => browser?.model?.path ?? "";
      if (!style) {
        style = document.createElement("style");
        style.textContent = await (await asked("module/compare.css")).text();
        document.head.append(style);
      }
      // From the server's own text, so that a page which was open over an upgrade gets the new one.
      const text = await (await asked("module/compare.js")).text();
      const address = URL.createObjectURL(new Blob([text], { type: "text/javascript" }));
      const module = await import(address).finally(() => URL.revokeObjectURL(address));
      const inside = document.createElement("div");
      inside.className = "mlnb-full";
      node.replaceChildren(inside);
      const ask = (verb, words) => asked(`ask?path=${encodeURIComponent(path())}`, { verb, words }).then((answer) => answer.json());
      const open = (report) => url(`report/${report.split("/").map(encodeURIComponent).join("/")}?path=${encodeURIComponent(path())}`);
      if (kind === "pipeline") return module.mountPipeline(inside, { ask, open });
      const state = async () => module.separate(await (await asked(`state?path=${encodeURIComponent(path())}`)).arrayBuffer());
      const kept = JSON.parse(localStorage.getItem("mlnb:view") ?? "{}");
      return module.mount(inside, module.serverHost({ state, ask, open }, await state(), kept, (view) => localStorage.setItem("mlnb:view", JSON.stringify(view))));
    };

    return {
      id: "mlnb:compare",
      autoStart: true,
      optional: [ILauncher, ICommandPalette, IDefaultFileBrowser],
      activate(app, launcher, palette, browser) {
        const command = "mlnb:compare";
        let panel = null;
        app.commands.addCommand(command, {
          label: "Compare Runs", caption: "Compare runs and promote one", icon,
          execute() {
            if (!panel || panel.isDisposed) panel = new Panel("mlnb-compare", "Runs", shown(browser, "compare"), false);
            if (!panel.isAttached) app.shell.add(panel, "main");
            app.shell.activateById(panel.id);
          },
        });
        const side = new Panel("mlnb-pipeline", "Pipeline and Runs", shown(browser, "pipeline"), true);
        app.shell.add(side, "left", { rank: 650 });
        palette?.addItem({ command, category: "mlnb" });
        launcher?.add({ command, category: "Other", rank: 1 });
      },
    };
  };

  window._JUPYTERLAB = window._JUPYTERLAB || {};
  let scope = {};
  window._JUPYTERLAB.mlnb = {
    init: (shared) => { scope = shared; },
    get: async (name) => {
      if (name === "./style") return () => ({});
      const made = await plugin(scope);
      return () => ({ __esModule: true, default: made });
    },
  };
})();
