BEGIN TRANSACTION;
CREATE TABLE calls (
            id BLOB PRIMARY KEY CHECK (length(id) = 16),
            ended_ms INTEGER NOT NULL,
            request_id TEXT NOT NULL,
            number INTEGER NOT NULL,
            key_name TEXT NOT NULL,
            group_name TEXT NOT NULL,
            provider TEXT NOT NULL,
            kind TEXT NOT NULL,
            model TEXT NOT NULL,
            api TEXT NOT NULL,
            stream INTEGER NOT NULL CHECK (stream IN (0, 1)),
            outcome TEXT NOT NULL,
            input_tokens INTEGER,
            output_tokens INTEGER,
            cached_tokens INTEGER,
            cache_write_tokens INTEGER,
            reasoning_tokens INTEGER,
            cost_picodollars INTEGER CHECK (cost_picodollars >= 0),
            duration_ms INTEGER NOT NULL,
            first_content_ms INTEGER
        ) STRICT, WITHOUT ROWID
        ;
INSERT INTO "calls" VALUES(X'019B8D2F4A0000000000000000000001',1793491200000,'req_1',1,'team','g','openai-default','openai','gpt-4o-mini','chat',1,'ok',10,20,1,2,3,150000000,100,50);
INSERT INTO "calls" VALUES(X'019B8D2F4A0000000000000000000002',1793491200000,'req_1',1,'team','g','anthropic-default','anthropic','claude-sonnet-4-5','chat',0,'timeout',NULL,NULL,NULL,NULL,NULL,NULL,100,NULL);
INSERT INTO "calls" VALUES(X'019B8D2F4A0000000000000000000003',1793491200000,'req_2',1,'team','g','openai-default','openai','gpt-4o-mini','chat',0,'ok',10,20,1,2,3,7,100,50);
CREATE INDEX calls_by_time ON calls (ended_ms);
COMMIT;
PRAGMA user_version = 1;
PRAGMA application_id = 1381322309;
