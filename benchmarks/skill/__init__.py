"""CRPS skill of the default models on symbols that no weights saw: `python -m benchmarks.skill --data PARQUET`.

The Parquet file has symbol, date, open, high, low, close, volume, split and adj_close, prices raw. Models are those
that candlecast has by default, but for those with a drift, and their weights are those that are packaged. Forecasts are
19 quantiles of the log return since the last close, 1 to 10 sessions ahead, from every fifth session; the reference is
`random_walk_ewma`. Origins before the first scored one warm up recalibration and combination, and are not scored.
Weights were trained, and baselines are estimated, on bars up to the end of 2010; what is learnt later is learnt from
outcomes that were known at the origin.
"""
