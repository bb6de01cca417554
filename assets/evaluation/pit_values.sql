SELECT model, value AS pit, weight FROM ({scores}) JOIN origin_weights USING (origin) WHERE metric = 'pit'
