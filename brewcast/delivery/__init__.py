"""What a build hands over: the forecast, the month page, the track record, the release in its Bento.
It may import model, serving, data and common.
Never here: anything that changes what serves.
"""
