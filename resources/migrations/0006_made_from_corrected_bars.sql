-- Only a view is new: schema.sql creates it.
SELECT 1;
