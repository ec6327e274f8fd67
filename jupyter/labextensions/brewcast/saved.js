// A saved notebook's answer may hold a message (jupyter_server_config.py says why no module was made), which
// JupyterLab itself does not show. Written as a module-federation container by hand: there is nothing to bundle.
const plugin = {
  id: 'brewcast:saved',
  autoStart: true,
  activate: app => {
    const shown = {} // by notebook: the notification that is on the page, which a save that mends it takes away
    app.serviceManager.contents.fileChanged.connect(async (_, change) => {
      const { path, message } = change.newValue ?? {}
      if (change.type !== 'save' || !path) return
      if (shown[path]) app.commands.execute('apputils:dismiss-notification', { id: shown[path] })
      delete shown[path]
      if (!message) return
      const options = { autoClose: false }
      shown[path] = await app.commands.execute('apputils:notify', { message, type: 'warning', options })
    })
  }
}
window._JUPYTERLAB = window._JUPYTERLAB || {}
window._JUPYTERLAB.brewcast = { init: () => {}, get: async () => () => ({ __esModule: true, default: plugin }) }
