"""What a team does month after month: the monthly round, alerts, backups, lineage.
It may import every package but cli.
Never here: what a build or the service needs.
"""
