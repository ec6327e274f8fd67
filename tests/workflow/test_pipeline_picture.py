"The pipeline's picture: every text is escaped, and Markdown and an XML parser read it."

import xml.etree.ElementTree as ElementTree

from conftest import ROOT

from brewcast.common.params import read_env, read_stages, upstream_of
from brewcast.workflow.pipeline_picture import StageBox, direct_arrows, layout_rows, pipeline_picture


def test_the_projects_own_pipeline_is_drawn_with_every_stage_below_what_it_reads():
    # given the stages of pipeline.yaml
    stages = read_stages(ROOT, read_env(ROOT))
    arrows = [(other, name) for name, stage in stages.items() for other in upstream_of(ROOT / stage.source)]
    # when they are laid out and drawn
    rows = layout_rows([*stages], arrows)
    picture = ElementTree.fromstring(pipeline_picture([StageBox(name, "", name, "") for name in stages], arrows))
    # then each is in one row, below its upstream, and has an arrow from the row before
    row_of = {name: number for number, row in enumerate(rows) for name in row}
    assert set(row_of) == set(stages) and sum(len(row) for row in rows) == len(stages)
    assert all(row_of[start] < row_of[end] for start, end in arrows)
    drawn = direct_arrows(arrows)
    assert {end for start, end in drawn if row_of[end] - row_of[start] == 1} == set(stages) - set(rows[0])
    assert len(picture.findall("{*}path")) == len(drawn) < len(arrows)
