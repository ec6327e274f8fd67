// Shows the message in the server's answer to a save: why the notebook's module was not exported
// (jupyter_server_config.py writes it). JupyterLab alone ignores this message. This file is a module-federation
// container, written by hand because it needs no bundler.
const plugin = {
  id: 'brewcast:saved',
  autoStart: true,
  activate: app => {
    const shown = {} // notebook -> its notification on the page; the next save closes it
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
