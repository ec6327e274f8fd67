"JupyterLab in this project: `. ./activate` puts this folder on JUPYTER_CONFIG_PATH, and `make lab` opens it."

from pathlib import Path

c = get_config()  # noqa: F821
root = Path(__file__).resolve().parent.parent

c.ServerApp.ip = "127.0.0.1"
c.ServerApp.allow_root = True  # in a container there is nobody else; only this machine is listened to, with a token
c.ServerApp.root_dir = str(root)
# The default manager is asynchronous, Ploomber's extension of it is not: no notebook would open.
c.ServerApp.contents_manager_class = "jupyter_server.services.contents.largefilemanager.LargeFileManager"
# Nothing calls home.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.collaborative = False


def clean_before_save(path, model, **kwargs):
    "A saved notebook holds code and prose: what nbdev_clean leaves, without outputs."
    from nbdev.clean import clean_jupyter

    if model["type"] == "notebook" and (root / path).resolve().parent == root / "nbs":
        clean_jupyter(path=str(root / path), model=model, **kwargs)
        for cell in model["content"]["cells"]:
            if cell["cell_type"] == "code":
                cell["outputs"] = []


def export_after_save(model, os_path, **kwargs):
    "An edit is what runs: the module is made from the notebook that was saved."
    from brewcast.build import export_saved

    if model["type"] == "notebook" and Path(os_path).resolve().parent == root / "nbs":
        export_saved(root, Path(os_path))


c.FileContentsManager.pre_save_hook = clean_before_save
c.FileContentsManager.post_save_hook = export_after_save


def keep_records():
    "Saving makes no stage stale by itself: its code decides, as everywhere."
    from ploomber.jupyter.manager import DAGMapping

    DAGMapping.delete_metadata = lambda self, key: None


keep_records()
