"Settings of JupyterLab in this project. `. ./activate` adds this folder to JUPYTER_CONFIG_PATH; `make lab` starts JupyterLab."

from pathlib import Path

from jupyter_server.services.contents.largefilemanager import LargeFileManager

c = get_config()  # noqa: F821
root = Path(__file__).resolve().parent.parent

c.ServerApp.ip = "127.0.0.1"
c.ServerApp.allow_root = (
    True  # a container has no other user; the server listens to this machine only, and asks for a token
)
c.ServerApp.root_dir = str(root)
c.LabApp.workspaces_dir = str(root / "scratch" / "workspaces")  # the open tabs; each clone has its own
# No requests to other servers: no news, no updates, no list of extensions from PyPI.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.LabApp.collaborative = False
c.LabApp.extra_labextensions_path = [
    str(root / "jupyter" / "labextensions")
]  # shows the message in the answer to a save
# Extensions that Ploomber installs and this project does not use: text notebooks, the classic notebook, cloud sharing.
c.ServerApp.jpserver_extensions = {"jupyterlab_jupytext": False, "nbclassic": False, "ploomber_extension": False}


class Notebooks(LargeFileManager):
    "Saves notebooks without outputs and exports their modules. Ploomber derives its own manager from this class."

    def get(self, path, *args, **kwargs):
        "Open a notebook with the metadata that JupyterLab would add at the kernel's start, so that only looking changes nothing."
        from ipykernel.ipkernel import IPythonKernel

        model = super().get(path, *args, **kwargs)
        if is_ours(path) and model["type"] == "notebook" and model["content"]:
            metadata = model["content"]["metadata"]
            kernels = self.parent.kernel_spec_manager
            metadata["kernelspec"]["display_name"] = kernels.get_kernel_spec("python3").display_name
            metadata["language_info"] = dict(IPythonKernel.language_info)
        return model

    def save(self, model, path=""):
        "Save a notebook without outputs and export its module. An incomplete notebook is saved with a warning, but not exported."
        from nbdev.clean import clean_jupyter

        from brewcast.workflow.notebooks import export_after_save

        if is_ours(path) and model.get("type") == "notebook" and model.get("content"):
            clean_jupyter(path=str(root / path.strip("/")), model=model)
            model["content"]["cells"] = without_injected(model["content"]["cells"])
            for cell in model["content"]["cells"]:
                if cell["cell_type"] == "code":
                    cell["outputs"] = []
        saved = super().save(model, path)
        if is_ours(path) and (problem := export_after_save(root, root / path.strip("/"))):
            saved["message"] = f"Saved. Builds fail until you complete this: {problem}"
        return saved


def without_injected(cells):
    "Remove the cell of injected parameters. Ploomber does so itself, except while an incomplete notebook stops it from loading the DAG."
    cells = [cell for cell in cells if "injected-parameters" not in cell["metadata"].get("tags", [])]
    for cell in cells:
        if cell["metadata"].get("tags") == []:
            del cell["metadata"]["tags"]
    return cells


def is_ours(path):
    "Whether the path is a notebook of the library, in nbs/. Users may have other notebooks beside it."
    full_path = (root / path.strip("/")).resolve()
    is_in_library = full_path.is_relative_to(root / "nbs") and ".ipynb_checkpoints" not in full_path.parts
    return full_path.suffix == ".ipynb" and is_in_library


c.ServerApp.contents_manager_class = (
    Notebooks  # JupyterLab's default manager is asynchronous, Ploomber's is not: together no file would open
)


def as_last_built():
    "Let notebooks open with the parameters of the last build, so that they fit its products."
    from brewcast.workflow.ploomber_hooks import open_as_last_built

    open_as_last_built()


as_last_built()
