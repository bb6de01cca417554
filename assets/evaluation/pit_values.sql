SELECT model, value AS pit FROM ({scores}) {out_of_sample} WHERE metric = 'pit'
