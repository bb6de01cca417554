SELECT model, value AS pit, weight FROM ({scores}) JOIN origin_weights USING (origin) {out_of_sample} WHERE metric = 'pit'
