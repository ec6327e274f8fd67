"Complete verdicts, decisions, model cards and records of months for tests, which give only the fields that they are about."

from brewcast.common.records import (
    Decision,
    DecisionFigures,
    DecisionResult,
    Evidence,
    Finding,
    FitEnvironment,
    GateResult,
    IntervalSummary,
    ModelCard,
    ModelErrors,
    MonthRecord,
    Recipe,
    Verdict,
)

SEASONAL = Recipe(name="seasonal", params={})
FOREST = Recipe(name="forest", params={"n_estimators": 5})


def make_verdict(**fields) -> Verdict:
    "A verdict after which the forest serves; it has no errors, and nothing by month or group."
    no_evidence = Evidence(
        gain=0.1, p_value=0.01, months_won=10, months=12, wape_candidate=0.09, wape_champion=0.1, groups=[]
    )
    no_intervals = dict.fromkeys(["coverage", "interval", "constant_coverage", "constant_interval"])
    defaults = {
        "promoted": True,
        "verdict": "promote",
        "rule": "better",
        "reason": "Won 12 of 12 months.",
        "figures": no_evidence,
        "recipe": FOREST,
        "candidate": FOREST,
        "champion": SEASONAL,
        "challenger": None,
        "better_baseline": None,
        "cutoffs": [],
        "errors": {},
        "first_champion": False,
        "coverage_asked": 0.8,
        "by_month": [],
        "by_country": [],
        "by_size": [],
        "bias": [],
        "intervals": IntervalSummary(asked=0.8, by_group={}, **no_intervals),
    }
    return Verdict(**defaults | fields)


def make_errors(wape: float) -> ModelErrors:
    "Scores of a model without intervals."
    return ModelErrors(wape=wape, rmsse=0.7, bias=0.01, coverage=None, interval=None, n=12)


def make_decision(**fields) -> Decision:
    "A decision to train the first model; the data is trusted."
    defaults = {
        "retrain": True,
        "train_through": "2025-12-01",
        "rule": "no_model",
        "reason": "no model yet",
        "trusted": True,
        "findings": [],
        "figures": DecisionFigures(age=None, alarm="", chart="", moved=None, every=1, max_age=12, on_drift=True),
    }
    return Decision(**defaults | fields)


def make_month(month: str, **fields) -> MonthRecord:
    "The record of a month that was published, with the first model; no forecast of it had served."
    decision = DecisionResult(**make_decision().model_dump(include=set(DecisionResult.model_fields)))
    verdict = GateResult(**make_verdict().model_dump(include=set(GateResult.model_fields)))
    return MonthRecord(month=month, **{"status": "published", "decision": decision, "verdict": verdict} | fields)


def price_finding(check: str, level: str, text: str, month: str) -> Finding:
    "A finding about prices."
    return Finding(check=check, level=level, where="price", text=text, figures={"month": month})


def make_card(recipe: Recipe, model_sha256: str) -> ModelCard:
    "The card of a candidate."
    return ModelCard(
        recipe=recipe,
        content_hash=model_sha256[:12],
        model_sha256=model_sha256,
        environment=FitEnvironment(lock="", packages={}),
        train_through="2022-06-01",
        rows=6,
        features=[],
        data={},
        chosen_on=[],
        tried=[],
        importances={},
        original_model={},
    )
