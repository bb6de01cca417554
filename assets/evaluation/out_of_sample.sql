ANTI JOIN (SELECT model, checkpoint, origin FROM forecasts WHERE in_sample) i USING (model, checkpoint, origin)
