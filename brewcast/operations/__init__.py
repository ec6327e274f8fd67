"""What a team runs month after month: the monthly run, alerts, backups, lineage.
It may import every package except cli.
Never here: anything that a build or the service needs.
"""
