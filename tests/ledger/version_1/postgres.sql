CREATE TABLE public.runestone_calls (
    id uuid NOT NULL,
    ended_ms bigint NOT NULL,
    request_id text NOT NULL,
    number integer NOT NULL,
    key_name text NOT NULL,
    group_name text NOT NULL,
    provider text NOT NULL,
    kind text NOT NULL,
    model text NOT NULL,
    api text NOT NULL,
    stream boolean NOT NULL,
    outcome text NOT NULL,
    input_tokens bigint,
    output_tokens bigint,
    cached_tokens bigint,
    cache_write_tokens bigint,
    reasoning_tokens bigint,
    cost_picodollars bigint,
    duration_ms bigint NOT NULL,
    first_content_ms bigint,
    CONSTRAINT runestone_calls_cost_picodollars_check CHECK ((cost_picodollars >= 0))
);
CREATE TABLE public.runestone_ledger (
    version integer NOT NULL
);
INSERT INTO public.runestone_calls VALUES ('019b8d2f-4a00-0000-0000-000000000001', 1793491200000, 'req_1', 1, 'team', 'g', 'openai-default', 'openai', 'gpt-4o-mini', 'chat', true, 'ok', 10, 20, 1, 2, 3, 150000000, 100, 50);
INSERT INTO public.runestone_calls VALUES ('019b8d2f-4a00-0000-0000-000000000002', 1793491200000, 'req_1', 1, 'team', 'g', 'anthropic-default', 'anthropic', 'claude-sonnet-4-5', 'chat', false, 'timeout', NULL, NULL, NULL, NULL, NULL, NULL, 100, NULL);
INSERT INTO public.runestone_calls VALUES ('019b8d2f-4a00-0000-0000-000000000003', 1793491200000, 'req_2', 1, 'team', 'g', 'openai-default', 'openai', 'gpt-4o-mini', 'chat', false, 'ok', 10, 20, 1, 2, 3, 7, 100, 50);
INSERT INTO public.runestone_ledger VALUES (1);
ALTER TABLE ONLY public.runestone_calls
    ADD CONSTRAINT runestone_calls_pkey PRIMARY KEY (id);
CREATE INDEX runestone_calls_by_time ON public.runestone_calls USING btree (ended_ms);
