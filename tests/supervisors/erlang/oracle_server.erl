%% The server of the scenarios without supervisors: it does what it is told by a call, a cast or an info.
-module(oracle_server).

-export([init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2]).

init({Play, {server, Id, Trap, Begins}}) ->
    process_flag(trap_exit, Trap),
    oracle:born(Play, Id),
    State = #{play => Play, notes => [], held => [], watched => #{}},
    case Begins of
        ok -> {ok, State};
        Term -> {ok, State, {continue, Term}}
    end.

handle_call({reply, Value}, _, State) -> {reply, Value, State};
handle_call(hold, From, State) -> {noreply, hold(From, State)};
handle_call({hold_continue, Term}, From, State) -> {noreply, hold(From, State), {continue, Term}};
handle_call({reply_continue, Value, Term}, _, State) -> {reply, Value, State, {continue, Term}};
handle_call({reply_stop, Value, Reason}, _, State) -> {stop, Reason, Value, State};
handle_call({reply_crash, Value, Text}, From, _) -> gen_server:reply(From, Value), error({boom, Text});
handle_call(bad, _, _) -> oops;
handle_call(Message, _, State) -> do(Message, State).

handle_cast(Message, State) -> do(Message, State).

handle_info({'EXIT', Pid, Reason}, State) ->
    note(State, "signal", [origin(State, Pid), " ", oracle:text(Reason)]),
    {noreply, State};
handle_info({'DOWN', _, process, Pid, Reason}, State) ->
    note(State, "down", [origin(State, Pid), " ", oracle:text(Reason)]),
    {noreply, State};
handle_info(Message, State) ->
    do(Message, State).

handle_continue(Term, State) ->
    note(State, "continue", atom_to_list(Term)),
    case Term of
        again -> {noreply, State, {continue, on}};
        crash -> error({boom, continue});
        stop -> {stop, normal, State};
        on -> {noreply, State}
    end.

terminate(Reason, State) -> note(State, "terminate", oracle:text(Reason)).

do({note, Value}, #{notes := Notes} = State) ->
    note(State, "note", atom_to_list(Value)),
    {noreply, State#{notes := Notes ++ [Value]}};
do({stop, Reason}, State) -> {stop, Reason, State};
do({crash, Text}, _) -> error({boom, Text});
do({continue, Term}, State) -> {noreply, State, {continue, Term}};
do({release, Value}, #{held := [From | Held]} = State) -> gen_server:reply(From, Value), {noreply, State#{held := Held}};
do({release_last, Value}, #{held := [_ | _] = Held} = State) ->
    gen_server:reply(lists:last(Held), Value),
    {noreply, State#{held := lists:droplast(Held)}};
do({release_twice, Value}, #{held := [From | _]} = State) -> gen_server:reply(From, Value), {noreply, State};
do({ask, Id, Message}, #{play := Play} = State) ->
    oracle:busy(Play, true),
    Value = gen_server:call(oracle:last(Play, Id), Message, infinity),
    oracle:busy(Play, false),
    note(State, "got", atom_to_list(Value)),
    {noreply, State};
do({tell, Id, Message}, State) -> gen_server:cast(last(State, Id), Message), {noreply, State};
do({link, Id}, State) -> attach(last(State, Id)), {noreply, State};
do({unlink, Id}, State) -> unlink(last(State, Id)), {noreply, State};
do({watch, Id}, #{watched := Watched} = State) ->
    Monitors = [monitor(process, last(State, Id)) | maps:get(Id, Watched, [])],
    {noreply, State#{watched := Watched#{Id => Monitors}}};
do({unwatch, Id}, #{watched := Watched} = State) ->
    case maps:get(Id, Watched, []) of
        [Monitor | Monitors] -> demonitor(Monitor, [flush]), {noreply, State#{watched := Watched#{Id => Monitors}}};
        [] -> {noreply, State}
    end;
do(_, State) -> {noreply, State}.

%% To a process that has ended, link/1 says so by an exception where it finds out at once (its manual: "for historical reasons"), and by
%% a signal otherwise. Always the signal.
attach(Pid) ->
    try link(Pid) catch error:noproc -> exit(self(), noproc) end.

hold(From, #{held := Held} = State) -> State#{held := Held ++ [From]}.

last(#{play := Play}, Id) -> oracle:last(Play, Id).

origin(#{play := Play}, Pid) -> oracle:name(Play, Pid).

note(#{play := Play}, What, Words) -> oracle:note(Play, [What, " ", get(name), " ", Words]).
