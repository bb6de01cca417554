-- The tables that the payloads of a batch are read into.
CREATE TEMP TABLE received (
    payload INTEGER, row BIGINT, unparsed BOOLEAN, symbol VARCHAR, local TIMESTAMP, instant TIMESTAMP, problem VARCHAR,
    open DOUBLE, high DOUBLE, low DOUBLE, close DOUBLE, volume DOUBLE, amount DOUBLE,
    dividend DOUBLE, split DOUBLE, adj_close DOUBLE, factor DOUBLE, unreadable VARCHAR, left_out BOOLEAN
);
CREATE TEMP TABLE payloads (number INTEGER, fetched_at TIMESTAMP, basis VARCHAR, actions VARCHAR, derives BOOLEAN);
CREATE TEMP TABLE rejected (
    symbol VARCHAR, date VARCHAR, open VARCHAR, high VARCHAR, low VARCHAR, close VARCHAR, volume VARCHAR,
    amount VARCHAR, session DATE, file VARCHAR, row_number BIGINT, received VARCHAR, rule VARCHAR, payload INTEGER,
    name VARCHAR, ts TIMESTAMP, detail VARCHAR
);
