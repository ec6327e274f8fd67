"The site's templates: HTML and SVG of its generated pages, in templates/."

from pathlib import Path

from jinja2 import Environment, FileSystemLoader

FOLDER = Path(__file__).resolve().parent / "templates"
TEMPLATES = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, trim_blocks=True, lstrip_blocks=True)
TEMPLATES.filters["pixels"] = "{:g}".format  # without the ".0" of a whole number
