"JupyterLab in this project: `. ./activate` puts this folder on JUPYTER_CONFIG_PATH, and `make lab` opens it."

from pathlib import Path

from jupyter_server.services.contents.largefilemanager import LargeFileManager

c = get_config()  # noqa: F821
root = Path(__file__).resolve().parent.parent

c.ServerApp.ip = "127.0.0.1"
c.ServerApp.allow_root = True  # in a container there is nobody else; only this machine is listened to, with a token
c.ServerApp.root_dir = str(root)
c.LabApp.workspaces_dir = str(root / "scratch" / "workspaces")  # which tabs are open: another clone has its own
# Nothing calls home, neither for news nor for the list of extensions that PyPI has.
c.LabApp.news_url = None
c.LabApp.check_for_updates_class = "jupyterlab.NeverCheckForUpdate"
c.LabApp.extension_manager = "readonly"
c.LabApp.collaborative = False
c.LabApp.extra_labextensions_path = [str(root / "jupyter" / "labextensions")]  # shows what a save's answer says
# What Ploomber brings along and nobody here uses: text notebooks, the classic notebook, sharing in a cloud.
c.ServerApp.jpserver_extensions = {"jupyterlab_jupytext": False, "nbclassic": False, "ploomber_extension": False}


class Notebooks(LargeFileManager):
    "Opens a notebook as its kernel will have it, and saves code and prose. Ploomber derives its own manager from it."

    def get(self, path, *args, **kwargs):
        "With what JupyterLab would write into it as soon as the kernel runs: a notebook just looked at is not changed."
        from ipykernel.ipkernel import IPythonKernel

        model = super().get(path, *args, **kwargs)
        if is_ours(path) and model["type"] == "notebook" and model["content"]:
            metadata, kernels = model["content"]["metadata"], self.parent.kernel_spec_manager
            metadata["kernelspec"]["display_name"] = kernels.get_kernel_spec("python3").display_name
            metadata["language_info"] = dict(IPythonKernel.language_info)
        return model

    def save(self, model, path=""):
        "Without outputs, and the module is made from it: an edit is what runs. One that is half typed is saved, and says so."
        from nbdev.clean import clean_jupyter

        from brewcast.workflow.notebooks import export_after_save

        if is_ours(path) and model.get("type") == "notebook" and model.get("content"):
            clean_jupyter(path=str(root / path.strip("/")), model=model)
            model["content"]["cells"] = without_injected(model["content"]["cells"])
            for cell in model["content"]["cells"]:
                if cell["cell_type"] == "code":
                    cell["outputs"] = []
        saved = super().save(model, path)
        if is_ours(path) and (told := export_after_save(root, root / path.strip("/"))):
            saved["message"] = f"Saved. No build until this is whole: {told}"
        return saved


def without_injected(cells):
    "Ploomber takes its parameters out itself, but where no DAG can be loaded, as while one of them is half typed."
    cells = [cell for cell in cells if "injected-parameters" not in cell["metadata"].get("tags", [])]
    for cell in cells:
        if cell["metadata"].get("tags") == []:
            del cell["metadata"]["tags"]
    return cells


def is_ours(path):
    "Is it a notebook of the library, or somebody's own beside it?"
    place = (root / path.strip("/")).resolve()
    inside = place.is_relative_to(root / "nbs") and ".ipynb_checkpoints" not in place.parts
    return place.suffix == ".ipynb" and inside


c.ServerApp.contents_manager_class = Notebooks  # the default is asynchronous, Ploomber's is not: nothing would open


def as_last_built():
    "Notebooks open with the parameters of the last build, which their products were made with."
    from ploomber.dag.dag import DAG

    DAG.brewcast_lab = True


as_last_built()
