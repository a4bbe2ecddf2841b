%% Plays scenarios on real Erlang/OTP and tells what happened, in the words of play.py beside it.
%%
%% A scenario is a term on a line of standard input: {Kind, Scripts, Setup, Steps}. The answer is its lines, and a line with a full stop.
%% It runs on one scheduler: everything but the driver has a high priority, so the driver goes on when nobody else can run.
-module(oracle).

-export([main/0, start/3]).
-export([born/2, note/2, busy/2, last/2, name/2, text/1]).
-export([init/1, handle_cast/2, handle_info/2, terminate/2]).

main() ->
    ok = logger:set_primary_config(level, none),
    [ok = load(Application) || Application <- [kernel, stdlib]],
    io:format("~s~n", [erlang:system_info(otp_release)]),
    serve().

%% Load all modules now, for a process that waits for the code server looks as if it were at rest.
load(Application) ->
    _ = application:load(Application),
    {ok, Modules} = application:get_key(Application, modules),
    code:ensure_modules_loaded(Modules).

serve() ->
    case io:read(standard_io, '') of
        {ok, Scenario} ->
            io:format("~s.~n", [[[Line, $\n] || Line <- in_own_process(Scenario)]]),
            serve();
        eof ->
            halt(0)
    end.

in_own_process(Scenario) ->
    Before = processes(),
    {Driver, Monitor} = spawn_monitor(fun() -> exit({played, play(Scenario, [self() | Before])}) end),
    receive
        {'DOWN', Monitor, process, Driver, {played, Lines}} -> Lines;
        {'DOWN', Monitor, process, Driver, Failure} -> [io_lib:format("the oracle failed: ~0p", [Failure])]
    end.

play({Kind, Scripts, Setup, Steps}, Before) ->
    process_flag(trap_exit, true),
    Nothing = #{events => [], lives => #{}, pids => #{}, names => #{}, failed => [], busy => #{}, clients => 0},
    Recorder = spawn_opt(fun() -> recorder(Nothing) end, [{priority, high}]),
    Play = #{kind => Kind, recorder => Recorder, last => ets:new(last, [public]), scripts => Scripts},
    First = set_up(Kind, Play, Setup),
    settle(),
    Lines = [take(Play), First, state(Play) | steps(Play, Steps)],
    [exit(Pid, kill) || Pid <- processes(), not lists:member(Pid, [self() | Before])],
    lists:append(Lines).

steps(_, []) -> [];
steps(Play, [Step | Steps]) ->
    case over(Play) of
        true -> [];
        false ->
            Answers = step(Play, Step),
            settle(),
            [["--"], take(Play), answers(Answers), state(Play) | steps(Play, Steps)]
    end.

over(#{kind := servers}) -> false;
over(Play) -> pid(Play, root) =:= undefined.

%% Return when everything else waits.
settle() -> settle(2).

settle(0) -> ok;
settle(Times) ->
    erlang:yield(),
    case lists:any(fun busy/1, processes() -- [self()]) of
        false -> settle(Times - 1);
        true -> settle(2)
    end.

busy(Pid) ->
    case process_info(Pid, status) of
        undefined -> false;
        {status, Status} -> Status =/= waiting
    end.

%% -- the recorder: the order of all events, the lives of each id, who is who

recorder(State) ->
    #{events := Events, lives := Lives, pids := Pids, names := Names, failed := Failed, busy := Busy, clients := Clients} = State,
    receive
        {born, From, Id} ->
            Life = maps:get(Id, Lives, 0) + 1,
            Name = io_lib:format("~s#~b", [Id, Life]),
            monitor(process, From),
            From ! {life, Life, Name},
            Born = State#{lives := Lives#{Id => Life}, pids := Pids#{Id => From}, names := Names#{From => Name}},
            recorder(Born#{events := [["init ", Name] | Events]});
        {note, Event} ->
            recorder(State#{events := [Event | Events]});
        {client, From} ->
            From ! {client, Clients + 1},
            recorder(State#{clients := Clients + 1});
        {failed, Pid} ->
            recorder(State#{failed := [Pid | Failed]});
        {busy, Pid, How} ->
            recorder(State#{busy := Busy#{Pid => How}});
        {take, From} ->
            From ! {taken, lists:reverse(Events)},
            recorder(State#{events := []});
        {get, From} ->
            From ! {got, State},
            recorder(State);
        {'DOWN', _, process, Pid, Reason} ->
            Ended = State#{pids := maps:filter(fun(_, Other) -> Other =/= Pid end, Pids)},
            case unstarted(Reason) orelse lists:member(Pid, Failed) of
                true -> recorder(Ended);
                false -> recorder(Ended#{events := [["exit ", maps:get(Pid, Names), " ", text(Reason)] | Events]})
            end
    end.

%% A start that fails is told to the starter before the process ends, so when that is seen is nobody's promise.
unstarted({shutdown, {failed_to_start_child, _, _}}) -> true;
unstarted(_) -> false.

born(#{recorder := Recorder, last := Last}, Id) ->
    ets:insert(Last, {Id, self()}),
    Recorder ! {born, self(), Id},
    receive {life, Life, Name} -> put(name, Name), Life end.

busy(#{recorder := Recorder}, How) -> Recorder ! {busy, self(), How}, ok.

note(#{recorder := Recorder}, Words) -> Recorder ! {note, Words}, ok.

take(#{recorder := Recorder}) ->
    Recorder ! {take, self()},
    receive {taken, Events} -> Events end.

recorded(#{recorder := Recorder}, Key) ->
    Recorder ! {get, self()},
    receive {got, State} -> maps:get(Key, State) end.

pid(Play, Id) -> maps:get(Id, recorded(Play, pids), undefined).

%% From a table, for to ask the recorder would let others run in the middle of a handler.
last(#{last := Last}, Id) -> ets:lookup_element(Last, Id, 2).

name(Play, Pid) -> maps:get(Pid, recorded(Play, names), "a stranger").

%% -- supervisors, or servers without one

set_up(servers, Play, Servers) ->
    [start_server(Play, Server) || Server <- Servers],
    [];
set_up(_, Play, Root) ->
    case start(supervisor, Play, Root) of
        {ok, _} -> [];
        {error, Reason} -> [["start failed(", text(Reason), ")"]]
    end.

start_server(Play, Server) ->
    {ok, _} = gen_server:start(oracle_server, {Play, Server}, [{spawn_opt, [{priority, high}]}]).

spec(Play, {child, Id, Restart, Shutdown, Significant, _, Flags, _} = Child) ->
    Type = case Flags of worker -> worker; _ -> supervisor end,
    Start = {?MODULE, start, [Type, Play, Child]},
    #{id => Id, start => Start, restart => Restart, shutdown => Shutdown, significant => Significant, type => Type}.

start(worker, Play, Child) -> gen_server:start_link(?MODULE, {worker, Play, Child}, [{spawn_opt, [{priority, high}]}]);
start(supervisor, Play, Child) ->
    %% What supervisor:start_link/2 does, but for the priority.
    gen_server:start_link(supervisor, {self, ?MODULE, {supervisor, Play, Child}}, [{spawn_opt, [{priority, high}]}]).

%% A dynamic supervisor's: the template is started with one more argument, the child.
template(Play, Child) -> (spec(Play, Child))#{start := {?MODULE, start, [worker, Play]}}.

state(#{kind := servers}) -> [];
state(Play) ->
    Pids = recorded(Play, pids),
    [children(Play, Id, Pid) || {Id, Pid} <- lists:sort(maps:to_list(Pids)), is_supervisor(Pid)].

is_supervisor(Pid) ->
    {dictionary, Dictionary} = process_info(Pid, dictionary),
    lists:keymember(supervisor, 1, Dictionary).

children(Play, Id, Pid) ->
    Listed = [lists:flatten(child(Play, Child)) || Child <- lists:reverse(supervisor:which_children(Pid))],
    Counted = supervisor:count_children(Pid),
    [Specs, Active | Types] = [proplists:get_value(What, Counted) || What <- [specs, active, supervisors, workers]],
    case Play of
        #{kind := tree} -> [io_lib:format("~s:~s | ~b ~b ~b ~b", [Id, Listed, Specs, Active | Types])];
        %% There is no order. Of specs, only the template is counted there; of the active ones, one too few once a child was
        %% terminated while it was being restarted, for it is counted as restarting ever after.
        #{kind := dynamic} -> [io_lib:format("~s:~s | ~b ~b ~b", [Id, lists:sort(Listed), length(Listed) | Types])]
    end.

child(_, {Id, undefined, Type, _}) -> io_lib:format(" ~s stopped ~s,", [Id, Type]);
child(_, {Id, restarting, Type, _}) -> io_lib:format(" ~s restarting ~s,", [Id, Type]);
child(Play, {_, Pid, Type, _}) -> io_lib:format(" ~s running ~s,", [name(Play, Pid), Type]).

%% -- steps

step(Play, {burst, Id, Steps}) ->
    case pid(Play, Id) of
        undefined -> [{said, "dead"}];
        Pid ->
            ok = sys:suspend(Pid),
            Answers = [begin A = step(Play, S), settle(), A end || S <- Steps],
            ok = sys:resume(Pid),
            lists:append(Answers)
    end;
step(Play, {crash, Id, Text}) -> to(Play, Id, fun(Pid) -> gen_server:cast(Pid, {crash, Text}) end);
step(Play, {quit, Id, Reason}) -> to(Play, Id, fun(Pid) -> gen_server:cast(Pid, {stop, Reason}) end);
step(Play, {signal, Id, Reason}) ->
    %% From a stranger, for the driver is the parent of the root.
    Sent = case Reason of killed -> kill; _ -> Reason end,
    to(Play, Id, fun(Pid) -> spawn(fun() -> exit(Pid, Sent) end) end);
step(Play, {halt, Id, Reason}) -> asking(Play, Id, fun(Pid) -> stop(Pid, Reason) end);
step(#{kind := dynamic} = Play, {start_child, Id, Child}) -> asking(Play, Id, fun(Pid) -> supervisor:start_child(Pid, [Child]) end);
step(Play, {terminate_process, Id, Child}) ->
    Process = last(Play, Child),
    asking(Play, Id, fun(Pid) -> supervisor:terminate_child(Pid, Process) end);
step(Play, {start_child, Id, Child}) -> asking(Play, Id, fun(Pid) -> supervisor:start_child(Pid, spec(Play, Child)) end);
step(Play, {terminate_child, Id, Child}) -> asking(Play, Id, fun(Pid) -> supervisor:terminate_child(Pid, Child) end);
step(Play, {restart_child, Id, Child}) -> asking(Play, Id, fun(Pid) -> supervisor:restart_child(Pid, Child) end);
step(Play, {delete_child, Id, Child}) -> asking(Play, Id, fun(Pid) -> supervisor:delete_child(Pid, Child) end);

step(Play, {start_server, Id, Server}) ->
    case pid(Play, Id) of
        undefined -> start_server(Play, Server), [];
        _ -> []
    end;
step(Play, {call, Id, Message}) -> client(Play, Id, fun(Pid) -> gen_server:call(Pid, Message, infinity) end);
step(Play, {cast, Id, Message}) -> gen_server:cast(last(Play, Id), Message), [];
step(Play, {info, Id, Message}) -> last(Play, Id) ! Message, [];
step(Play, {finish, Id, Reason}) -> client(Play, Id, fun(Pid) -> stop(Pid, Reason) end);
step(Play, {suspend, Id}) -> look(Play, Id, fun(Pid) -> sys:suspend(Pid, infinity) end);
step(Play, {resume, Id}) -> look(Play, Id, fun(Pid) -> sys:resume(Pid, infinity) end);
step(Play, {get_state, Id}) -> look(Play, Id, fun(Pid) -> sys:get_state(Pid, infinity) end);
step(Play, {replace_state, Id, crash}) -> look(Play, Id, fun(Pid) -> sys:replace_state(Pid, fun(_) -> error(crash) end, infinity) end);
step(Play, {replace_state, Id, Note}) ->
    look(Play, Id, fun(Pid) -> sys:replace_state(Pid, fun(State) -> State#{notes := [Note]} end, infinity) end).

%% A process that ends for the very reason before it has read the request: the library is content with that.
stop(Pid, Reason) ->
    try gen_server:stop(Pid, Reason, infinity)
    catch exit:{Reason, {sys, terminate, _}} when not is_tuple(Reason); element(1, Reason) =/= boom -> ok
    end.

%% A client on its own, whose answer is an event; it may never come.
client(Play, Id, Function) ->
    Pid = last(Play, Id),
    spawn_opt(fun() -> client(Play, fun() -> Function(Pid) end) end, [{priority, high}]),
    [].

client(#{recorder := Recorder} = Play, Function) ->
    Recorder ! {client, self()},
    Client = receive {client, Number} -> io_lib:format("c~b", [Number]) end,
    Answer = try Function() of
        Value -> value(Value)
    catch
        exit:Reason -> ["exit(", cause(Reason), ")"];
        error:_ -> "raised"
    end,
    note(Play, ["answer ", Client, " ", Answer]).

value(#{notes := Notes, held := Held}) -> io_lib:format("~0p ~b", [Notes, length(Held)]);
value(Value) -> atom_to_list(Value).

%% Introspection goes before what is queued in the library, and waits in turn here: so only where nothing is handled.
look(Play, Id, Function) ->
    case maps:get(last(Play, Id), recorded(Play, busy), false) of
        true -> [{said, "busy"}];
        false -> client(Play, Id, Function)
    end.

to(Play, Id, Function) ->
    case pid(Play, Id) of
        undefined -> [{said, "dead"}];
        Pid -> Function(Pid), []
    end.

asking(Play, Id, Function) ->
    case pid(Play, Id) of
        undefined -> [{said, "dead"}];
        Pid -> [ask(Play, Function, Pid)]
    end.

ask(Play, Function, Pid) ->
    Driver = self(),
    Ref = make_ref(),
    Answer = fun() -> try answer(Play, Function(Pid)) catch exit:Reason -> ["exit(", cause(Reason), ")"] end end,
    spawn_opt(fun() -> Driver ! {Ref, Answer()} end, [{priority, high}]),
    {asked, Ref}.

answers(Asked) -> [["answer ", received(A)] || A <- Asked].

received({said, Words}) -> Words;
received({asked, Ref}) -> receive {Ref, Words} -> Words after 0 -> "waits" end.

answer(_, ok) -> "ok";
answer(_, {ok, undefined}) -> "ignored";
answer(Play, {ok, Pid}) when is_pid(Pid) -> ["ok ", name(Play, Pid)];
answer(Play, {error, {already_started, Pid}}) -> ["already_started ", name(Play, Pid)];
answer(_, {error, Refusal}) when Refusal =:= already_present; Refusal =:= running; Refusal =:= restarting; Refusal =:= not_found ->
    atom_to_list(Refusal);
answer(_, {error, {Reason, Child}}) when element(1, Child) =:= child -> ["failed(", text(Reason), ")"];
answer(_, {error, Reason}) -> ["failed(", text(Reason), ")"].

cause({Reason, {gen_server, call, _}}) -> text(Reason);
cause({Reason, {sys, _, _}}) -> text(Reason);
cause(Reason) -> text(Reason).

text({Reason, {gen_server, call, _}}) -> io_lib:format("lost(~s)", [text(Reason)]);
text(Atom) when is_atom(Atom) -> atom_to_list(Atom);
text({shutdown, {failed_to_start_child, Id, Reason}}) -> io_lib:format("unstarted(~s, ~s)", [Id, text(Reason)]);
text({shutdown, Detail}) -> io_lib:format("shutdown(~s)", [Detail]);
text({boom, Text}) -> io_lib:format("crash(~s)", [Text]);
text({{boom, Text}, Stack}) when is_list(Stack) -> io_lib:format("crash(~s)", [Text]);
text({bad_combination_of_supervisor_flags_and_child_spec, _}) -> "invalid";
text({start_spec, _}) -> "invalid";
text({bad_combination, _}) -> "invalid";
text({bad_return_value, _}) -> "bad_return";
text(Other) -> io_lib:format("other(~0p)", [Other]).

%% -- callbacks of the supervisors and of the servers

init({supervisor, Play, {child, Id, _, _, _, _, {flags, Strategy, MaxRestarts, AutoShutdown}, Children}}) ->
    put(supervisor, true),
    born(Play, Id),
    Flags = #{strategy => Strategy, intensity => MaxRestarts, period => 3600, auto_shutdown => AutoShutdown},
    case Strategy of
        simple_one_for_one -> {ok, {Flags, [template(Play, Child) || Child <- Children]}};
        _ -> {ok, {Flags, [spec(Play, Child) || Child <- Children]}}
    end;
init({worker, Play, {child, Id, _, _, _, Trap, _, _}}) ->
    process_flag(trap_exit, Trap),
    Life = born(Play, Id),
    #{scripts := Scripts, recorder := Recorder} = Play,
    {script, Inits, Terminate} = maps:get(Id, Scripts, {script, [], ok}),
    case lists:nthtail(min(Life - 1, length(Inits)), Inits) of
        [] -> {ok, {Play, Terminate}};
        [ok | _] -> {ok, {Play, Terminate}};
        [Failure | _] -> Recorder ! {failed, self()}, fail(Failure)
    end.

fail(ignore) -> ignore;
fail({crash, Text}) -> error({boom, Text});
fail({stop, Reason}) -> {stop, Reason}.

handle_cast({crash, Text}, _) -> error({boom, Text});
handle_cast({stop, Reason}, State) -> {stop, Reason, State}.

handle_info({'EXIT', _, Reason}, {Play, _} = State) ->
    note(Play, ["signal ", get(name), " ", text(Reason)]),
    {noreply, State}.

terminate(Reason, {Play, Terminate}) ->
    note(Play, ["terminate ", get(name), " ", text(Reason)]),
    case Terminate of
        ok -> ok;
        {crash, Text} -> error({boom, Text})
    end.
