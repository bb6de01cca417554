-- Only a table is new: schema.sql creates it.
SELECT 1;
