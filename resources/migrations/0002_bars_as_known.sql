-- The macro of version 1 returned flags, which describe a bar beside its neighbours of today.
DROP MACRO TABLE IF EXISTS bars_as_known;
