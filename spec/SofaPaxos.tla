------------------------------ MODULE SofaPaxos ------------------------------
(***************************************************************************)
(* What src/sofadb/paxos does, as a mathematician would write it.  Section  *)
(* numbers are those of Lamport, "Paxos Made Simple"; P1 to P12 are the     *)
(* rules of docs/rules.md.                                                  *)
(*                                                                          *)
(* One value (section 2).  An acceptor promises a ballot if it has promised *)
(* none that is higher (P1a), and reports what it has accepted; it accepts  *)
(* a proposal unless it has promised a higher ballot.  A proposer whom a    *)
(* majority has promised proposes the value of the highest-numbered         *)
(* proposal that they reported, or any value if they reported none (P2c).   *)
(* A value is chosen when a majority has accepted it under one ballot       *)
(* (section 2.3).                                                           *)
(*                                                                          *)
(* A sequence of values (section 3).  One promise is for all instances from *)
(* a first one on, and so is the report, which may come in parts.  The      *)
(* leader proposes again what was reported, fills the gaps with no-ops, and *)
(* then proposes what it likes, instance after instance, at most Alpha      *)
(* beyond what it knows to be chosen.  Who the acceptors of instance        *)
(* i + Alpha are is said by the values chosen up to i.  A leader needs the  *)
(* promises of a majority of every configuration in its window.             *)
(*                                                                          *)
(* Learning (section 2.3).  The leader is the distinguished learner: it     *)
(* counts acceptances of its own ballot.  It tells the others how far       *)
(* everything is chosen; they take what they accepted under that same       *)
(* ballot as chosen, and are taught the rest.  What is chosen takes effect  *)
(* in order: a node's watermark is the end of the unbroken run.             *)
(*                                                                          *)
(* Stable storage (section 2.5).  A node's memory runs ahead of its disk.   *)
(* Records become stable later, in order, and what tells of a record leaves *)
(* only then (P1).  A crash loses what is not stable.                       *)
(*                                                                          *)
(* The network is the set of all that was ever sent.  It only grows, and    *)
(* anything in it may be received at any time, again and again, or never:   *)
(* that is loss, repetition, delay and overtaking in one (P12).  A message  *)
(* that carries two things is two messages here: the watermark in an accept *)
(* request, or in a confirmation, is a notice of its own.                   *)
(*                                                                          *)
(* Not here, since safety does not depend on it: who campaigns when, hints  *)
(* (Refused), canvassing, giving up (it is doing nothing).  And not here    *)
(* although something depends on it: reads (P7), sessions (P8), time (P5).  *)
(*                                                                          *)
(* Every condition is written Because(condition, words), so that a run that *)
(* is checked against this module (SofaTrace) ends with the words for what  *)
(* was wrong.  Off names rules that are switched off, for showing that TLC  *)
(* misses them.                                                             *)
(***************************************************************************)
EXTENDS Integers, Sequences, FiniteSets, TLC

CONSTANTS
    Nodes,          \* Every node is proposer, acceptor and learner.
    LastBallot,     \* Ballots are 1 .. LastBallot; 0 is none.
    Owner,          \* Owner[b] is the only node that may use ballot b.
    LastInstance,   \* Instances are 1 .. LastInstance.
    Wants,          \* Wants[n]: what node n may propose of its own.
    NoOp,           \* What fills a gap.
    NoValue,        \* Not a value.
    Initial,        \* The acceptors of the first instance.
    Changes,        \* Changes[v]: the acceptors that value v asks for.  Other values change nothing.
    Alpha,
    CrashesMax,
    CutReports,     \* Whether a report has room for one acceptance only, so that it comes in parts.
    Telling,        \* Whether nodes tell one another what is chosen.
    Off,            \* The names of the rules that are switched off.
    Explain         \* Whether to say which condition does not hold.

VARIABLES
    memory,         \* Of each node: what a crash loses.
    disk,           \* Of each node: what is stable.
    waiting,        \* Of each node: records on their way to the disk, and what leaves after each.
    network,        \* Everything ever sent.
    votes,          \* Every stable acceptance ever, <<node, ballot, instance, value>>: for the invariants.
    crashes         \* How many there have been.

vars == <<memory, disk, waiting, network, votes, crashes>>

Ballots == 1 .. LastBallot
Instances == 1 .. LastInstance

Because(condition, words) == IF condition THEN TRUE ELSE Explain /\ PrintT(<<"because", words>>) /\ FALSE
IsOn(rule) == rule \notin Off
Larger(a, b) == IF a >= b THEN a ELSE b
Maximum(S) == CHOOSE x \in S : \A y \in S : x >= y

Nothing == [ballot |-> 0, value |-> NoValue]    \* Nothing accepted.

IsQuorum(configuration, nodes) == 2 * Cardinality(configuration \cap nodes) > Cardinality(configuration)

-----------------------------------------------------------------------------
(* A node's memory. *)

(* Whose promises a leader has (`promised`) needs no memory where the configuration never changes; what it has proposed it *)
(* need not remember as reported (`highest`).  The fewer differences, the fewer states.                                   *)
Idle == [ballot |-> 0, leads |-> FALSE, next |-> 0, highest |-> <<>>, promised |-> {}]

Empty == [
    promised |-> 0,
    accepted |-> [i \in Instances |-> Nothing],     \* The latest acceptance of each instance.
    known |-> [i \in Instances |-> NoValue],        \* What it knows to be chosen.
    watermark |-> 0,
    lead |-> Idle]                                  \* The ballot it campaigns for or leads.

RECURSIVE Run(_, _)
Run(known, from) ==     \* The end of the unbroken run, which reaches at least to `from`.
    IF from < LastInstance /\ known[from + 1] # NoValue THEN Run(known, from + 1) ELSE from

(* The acceptors of instance i, for a node that knows everything up to i - Alpha (section 3). *)
ConfigurationAt(m, i) ==
    LET delay == IF IsOn("a change waits for alpha") THEN Alpha ELSE 1
        changes == {j \in 1 .. (i - delay) : m.known[j] \in DOMAIN Changes}
    IN  IF DOMAIN Changes = {} \/ changes = {} THEN Initial ELSE Changes[m.known[Maximum(changes)]]

Window(m) == {ConfigurationAt(m, i) : i \in (m.watermark + 1) .. (m.watermark + Alpha)}

-----------------------------------------------------------------------------
(* A node's disk.  The last record of an instance is what is read when others are taught from it. *)

Blank == [
    promised |-> 0,
    accepted |-> [i \in Instances |-> Nothing],
    learned |-> [i \in Instances |-> NoValue],
    latest |-> [i \in Instances |-> NoValue],
    chosen |-> 0]       \* Everything up to here is chosen, and the latest record of each holds its value.

NoRecord == [kind |-> "none"]
PromiseRecord(b, upto) == [kind |-> "promise", ballot |-> b, upto |-> upto]
AcceptanceRecord(i, b, v, upto) ==
    [kind |-> "acceptance", instance |-> i, ballot |-> b, value |-> v, upto |-> upto]
LearnedRecord(i, v, upto) == [kind |-> "learned", instance |-> i, value |-> v, upto |-> upto]

Write(d, r) ==
    CASE r.kind = "none" -> d
      [] r.kind = "promise" ->
            [d EXCEPT !.promised = Larger(@, r.ballot), !.chosen = Larger(@, r.upto)]
      [] r.kind = "acceptance" ->
            [d EXCEPT !.promised = Larger(@, r.ballot), !.chosen = Larger(@, r.upto),
                      !.accepted[r.instance] = [ballot |-> r.ballot, value |-> r.value],
                      !.latest[r.instance] = r.value]
      [] r.kind = "learned" ->
            [d EXCEPT !.learned[r.instance] = r.value, !.latest[r.instance] = r.value,
                      !.chosen = Larger(@, r.upto)]

RECURSIVE WriteAll(_, _)
WriteAll(d, items) == IF items = <<>> THEN d ELSE WriteAll(Write(d, Head(items).record), Tail(items))

VotesIn(n, items) ==
    {<<n, r.ballot, r.instance, r.value>> :
        r \in {s \in {items[k].record : k \in 1 .. Len(items)} : s.kind = "acceptance"}}

(* What a node is after a crash. *)
Restored(d) ==
    LET known == [i \in Instances |->
            IF d.learned[i] # NoValue THEN d.learned[i]
            ELSE IF i <= d.chosen THEN d.accepted[i].value ELSE NoValue]
    IN  [Empty EXCEPT
            !.promised = IF IsOn("a promise survives a crash") THEN d.promised
                         ELSE Maximum({0} \cup {d.accepted[i].ballot : i \in Instances}),
            !.accepted = d.accepted,
            !.known = known,
            !.watermark = Run(known, 0)]

-----------------------------------------------------------------------------
(* The network. *)

Silence == [
    prepares |-> {},        \* Phase 1a: [ballot, first].
    promises |-> {},        \* Phase 1b: [node, ballot, first, last, reported, chosen].
    accepts |-> {},         \* Phase 2a: [ballot, instance, value].
    acceptances |-> {},     \* Phase 2b: [node, ballot, instance].
    told |-> [b \in Ballots |-> 0],     \* Phase 3: how far everything is chosen, as the leader of b says.
    lessons |-> {}]         \* <<instance, value>>: what anybody may teach.

NoMessages == [prepares |-> {}, promises |-> {}, acceptances |-> {}]

Released(net, then) == [net EXCEPT
    !.prepares = @ \cup then.prepares,
    !.promises = @ \cup then.promises,
    !.acceptances = @ \cup then.acceptances]

(* What node n says of itself when it has become m: teaching and telling add to a set, so they may as well be done at once. *)
Spoken(net, n, m) == [net EXCEPT
    !.lessons = @ \cup {<<i, m.known[i]>> : i \in (memory[n].watermark + 1) .. m.watermark},
    !.told = IF m.lead.leads THEN [@ EXCEPT ![m.lead.ballot] = Larger(@, m.watermark)] ELSE @]

(* Node n becomes `after`, proposes `accepts` at once, and says `then` when `record` is stable.  When no crash is left and *)
(* nothing is on its way to the disk, the record may as well be stable at once: memory runs ahead of it anyway.            *)
Step(n, after, record, then, accepts) ==
    LET m == [after EXCEPT !.watermark = Run(after.known, after.watermark)]
        spoken == Spoken([network EXCEPT !.accepts = @ \cup accepts], n, m)
        item == [record |-> record, then |-> then]
        atOnce == waiting[n] = <<>> /\ (record = NoRecord \/ crashes = CrashesMax)
    IN  /\ memory' = [memory EXCEPT ![n] = m]
        /\ crashes' = crashes
        /\ IF atOnce
           THEN /\ disk' = [disk EXCEPT ![n] = Write(@, record)]
                /\ votes' = votes \cup VotesIn(n, <<item>>)
                /\ network' = Released(spoken, then)
                /\ waiting' = waiting
           ELSE /\ waiting' = [waiting EXCEPT ![n] = Append(@, item)]
                /\ network' = IF IsOn("an answer waits for its record") THEN spoken ELSE Released(spoken, then)
                /\ UNCHANGED <<disk, votes>>

-----------------------------------------------------------------------------
(* Phase 1 (sections 2.2 and 3). *)

PromiseMessage(n, m, b, first, last) == [
    node |-> n, ballot |-> b, first |-> first, last |-> last, chosen |-> m.watermark,
    reported |-> [i \in Instances |->
        IF i > m.watermark /\ i \in first .. last THEN m.accepted[i] ELSE Nothing]]

(* A node promises a fresh ballot of its own to itself; with that on disk, it asks everybody. *)
Campaign(n, b, last) ==
    LET m == memory[n]
        after == [m EXCEPT !.promised = b, !.lead = [Idle EXCEPT !.ballot = b]]
        first == m.watermark + 1
    IN  /\ Because(Owner[b] = n \/ ~IsOn("a ballot has one owner"), "the ballot belongs to another node (2.5)")
        /\ Because(b > m.promised, "a campaign needs a ballot above everything that the node has promised (2.5)")
        /\ Step(n, after, PromiseRecord(b, m.watermark),
                [NoMessages EXCEPT !.prepares = {[ballot |-> b, first |-> first]},
                                   !.promises = {PromiseMessage(n, after, b, first, last)}], {})

(* Phase 1b.  A promise that stands already is only told again.  `last` is where the report ends for want of room. *)
Promise(n, b, first, last) ==
    LET m == memory[n]
        after == IF b > m.promised THEN [m EXCEPT !.promised = b, !.lead = Idle] ELSE m
        record == IF b > m.promised THEN PromiseRecord(b, m.watermark) ELSE NoRecord
    IN  /\ Because(\E p \in network.prepares : p.ballot = b /\ p.first <= first,
                   "nobody has asked for this promise (phase 1a)")
        /\ Because(b >= m.promised, "a higher ballot is promised already (P1a)")
        /\ Step(n, after, record, [NoMessages EXCEPT !.promises = {PromiseMessage(n, after, b, first, last)}], {})

(* Those among `promises` whose reports are complete from `first` on. *)
Complete(promises, first) ==
    {n \in {p.node : p \in promises} :
        \/ ~IsOn("a report counts when it is complete")
        \/ \A i \in first .. LastInstance : \E p \in promises : p.node = n /\ p.first <= i /\ i <= p.last}

HighestReported(promises, i) ==
    LET reports == {p.reported[i] : p \in promises}
    IN  CHOOSE r \in reports : \A s \in reports : r.ballot >= s.ballot

(* Phase 1 is done (P4). *)
Lead(n, promises) ==
    LET m == memory[n]
        complete == Complete(promises, m.watermark + 1)
        lead == [ballot |-> m.lead.ballot, leads |-> TRUE, next |-> m.watermark + 1,
                 promised |-> IF DOMAIN Changes = {} THEN {} ELSE complete,
                 highest |-> [i \in Instances |-> HighestReported(promises, i)]]
    IN  /\ Because(m.lead.ballot # 0 /\ ~m.lead.leads, "the node does not campaign")
        /\ Because(promises \subseteq network.promises /\ \A p \in promises : p.ballot = m.lead.ballot,
                   "a promise on which the leader rests was not sent, or not for this ballot")
        /\ Because(\A configuration \in Window(m) : IsQuorum(configuration, complete),
                   "no quorum of every configuration in the window has promised (P4)")
        /\ Because(\A p \in promises : p.chosen <= m.watermark \/ ~IsOn("first learn what is chosen"),
                   "somebody knows more to be chosen than the leader does")
        /\ Step(n, [m EXCEPT !.lead = lead], NoRecord, NoMessages, {})

-----------------------------------------------------------------------------
(* Phase 2. *)

(* What the leader must propose for instance i, or NoValue if it may choose (P2c, P3). *)
Obliged(lead, i) ==
    IF lead.highest[i] # Nothing
    THEN IF IsOn("the reported value goes first") THEN lead.highest[i].value ELSE NoValue
    ELSE IF \E j \in (i + 1) .. LastInstance : lead.highest[j] # Nothing THEN NoOp ELSE NoValue

(* Phase 2a for the next instance, and phase 2b at the leader itself. What is known to be chosen may be passed over. *)
Propose(n, i, v) ==
    LET m == memory[n]
        b == m.lead.ballot
        next == Larger(m.lead.next, m.watermark + 1)
        ahead == [m EXCEPT !.lead.next = i + 1,
                           !.lead.highest = [j \in Instances |-> IF j <= i THEN Nothing ELSE @[j]]]
        accept == {[ballot |-> b, instance |-> i, value |-> v]}
    IN  /\ Because(m.lead.leads, "the node does not lead")
        /\ Because(i >= next /\ \A j \in next .. (i - 1) : m.known[j] # NoValue,
                   "the leader proposes instance after instance, each once")
        /\ Because(i <= m.watermark + Alpha, "the instance lies more than alpha beyond what is chosen (P4)")
        /\ Because(\A configuration \in Window(m) :
                        \/ DOMAIN Changes = {}
                        \/ IsQuorum(configuration, m.lead.promised)
                        \/ ~IsOn("promises of every configuration"),
                   "no quorum of every configuration in the window has promised (P4)")
        /\ Because(Obliged(m.lead, i) \in {NoValue, v},
                   "the leader must propose what phase 1 reported, and no-ops in the gaps (P2c, P3)")
        /\ Because(m.known[i] \in {NoValue, v} \/ ~IsOn("nothing else where a value is known"),
                   "another value is known to be chosen there")
        /\ IF n \in ConfigurationAt(m, i)
           THEN Step(n, [ahead EXCEPT !.accepted[i] = [ballot |-> b, value |-> v]],
                     AcceptanceRecord(i, b, v, m.watermark),
                     [NoMessages EXCEPT !.acceptances = {[node |-> n, ballot |-> b, instance |-> i]}], accept)
           ELSE Step(n, ahead, NoRecord, NoMessages, accept)

(* Phase 2b.  What was accepted already is only told again. *)
Accept(n, b, i, v) ==
    LET m == memory[n]
        again == m.accepted[i] = [ballot |-> b, value |-> v]
        after == [m EXCEPT !.promised = Larger(@, b), !.accepted[i] = [ballot |-> b, value |-> v], !.lead = Idle]
        then == [NoMessages EXCEPT !.acceptances = {[node |-> n, ballot |-> b, instance |-> i]}]
    IN  /\ Because([ballot |-> b, instance |-> i, value |-> v] \in network.accepts,
                   "nobody has proposed this value under this ballot for this instance (phase 2a)")
        /\ Because(b >= m.promised \/ ~IsOn("nothing below a promise is accepted"),
                   "a higher ballot is promised (P1a)")
        /\ Because(m.watermark < i /\ i <= m.watermark + Alpha,
                   "the instance is known to be chosen, or lies more than alpha beyond that")
        /\ Because(m.known[i] \in {NoValue, v}, "another value is known to be chosen there")
        /\ IF again THEN Step(n, m, NoRecord, then, {})
           ELSE Step(n, after, AcceptanceRecord(i, b, v, m.watermark), then, {})

-----------------------------------------------------------------------------
(* Learning (section 2.3). *)

Known(m, i, v) == [m EXCEPT !.known[i] = v]

(* The owner of ballot b has heard from `voters`: a quorum of the instance's own configuration makes its value chosen. *)
Count(n, b, i, v, voters) ==
    LET m == memory[n]
    IN  /\ Because(Owner[b] = n, "acceptances are told to the owner of the ballot")
        /\ Because([ballot |-> b, instance |-> i, value |-> v] \in network.accepts, "the value was not proposed")
        /\ Because(\A node \in voters : \E a \in network.acceptances :
                        a.node = node /\ a.instance = i /\ (a.ballot = b \/ ~IsOn("votes are of one ballot")),
                   "an acceptance that the leader counts was never told")
        /\ Because(IsQuorum(ConfigurationAt(m, i), voters), "no quorum of the configuration has accepted")
        /\ Because(m.known[i] \in {NoValue, v}, "two values are chosen for one instance")
        /\ Step(n, Known(m, i, v),
                IF n \in ConfigurationAt(m, i) \/ m.known[i] = v THEN NoRecord ELSE LearnedRecord(i, v, m.watermark),
                NoMessages, {})

RECURSIVE Reach(_, _, _, _)
Reach(m, b, upto, w) ==
    IF /\ w < upto
       /\ \/ m.known[w + 1] # NoValue
          \/ m.accepted[w + 1].ballot = b
          \/ ~IsOn("the acceptance is of the leader's ballot") /\ m.accepted[w + 1] # Nothing
    THEN Reach(m, b, upto, w + 1) ELSE w

(* The leader of b says that everything up to `upto` is chosen.  What the node accepted under b is what was chosen. *)
Hear(n, b, upto) ==
    LET m == memory[n]
        reach == Reach(m, b, upto, m.watermark)
        known == [i \in Instances |->
            IF i <= reach /\ m.known[i] = NoValue THEN m.accepted[i].value ELSE m.known[i]]
    IN  /\ Because(upto <= network.told[b], "the leader has not said that so much is chosen")
        /\ Because(b >= m.promised, "a higher ballot is promised: this is an old leader's word")
        /\ Step(n, [m EXCEPT !.known = known, !.lead = IF m.lead.ballot < b THEN Idle ELSE @],
                NoRecord, NoMessages, {})

(* Somebody who knew it has told the value.  A leader who proposed something else there, or nothing, has been deposed. *)
Learn(n, i, v) ==
    LET m == memory[n]
        deposed == m.lead.leads /\ [ballot |-> m.lead.ballot, instance |-> i, value |-> v] \notin network.accepts
        after == IF deposed /\ IsOn("a deposed leader gives up") THEN [m EXCEPT !.lead = Idle] ELSE m
    IN  /\ Because(<<i, v>> \in network.lessons, "nobody who could know has taught this value")
        /\ Because(m.known[i] = NoValue, "the value is known already")
        /\ Step(n, Known(after, i, v), LearnedRecord(i, v, 0), NoMessages, {})

-----------------------------------------------------------------------------
(* Disks and crashes. *)

RECURSIVE Answers(_, _)
Answers(net, items) ==  \* What waits for no record any more leaves.
    IF items # <<>> /\ Head(items).record = NoRecord THEN Answers(Released(net, Head(items).then), Tail(items))
    ELSE <<net, items>>

(* The oldest record of node n becomes stable, and what waited for it leaves. *)
Stabilize(n) ==
    LET item == Head(waiting[n])
        rest == Answers(Released(network, item.then), Tail(waiting[n]))
    IN  /\ Because(waiting[n] # <<>>, "no record is on its way to this disk")
        /\ disk' = [disk EXCEPT ![n] = Write(@, item.record)]
        /\ votes' = votes \cup VotesIn(n, <<item>>)
        /\ network' = rest[1]
        /\ waiting' = [waiting EXCEPT ![n] = rest[2]]
        /\ UNCHANGED <<memory, crashes>>

(* Node n stops and starts again, from what its disk then holds: what is stable, and perhaps the first records, `kept`, of *)
(* those that were on their way.                                                                                          *)
Restart(n, kept, d) ==
    /\ crashes < CrashesMax
    /\ crashes' = crashes + 1
    /\ disk' = [disk EXCEPT ![n] = d]
    /\ votes' = votes \cup VotesIn(n, kept)
    /\ waiting' = [waiting EXCEPT ![n] = <<>>]
    /\ memory' = [memory EXCEPT ![n] = Restored(d)]
    /\ network' = network

-----------------------------------------------------------------------------
Init ==
    /\ memory = [n \in Nodes |-> Empty]
    /\ disk = [n \in Nodes |-> Blank]
    /\ waiting = [n \in Nodes |-> <<>>]
    /\ network = Silence
    /\ votes = {}
    /\ crashes = 0


(* What may happen.  Fewer steps are taken here than could be, where that loses nothing:                                 *)
(* - a step that does nothing but add messages is taken at once, since they may still arrive as late as one likes;       *)
(* - nobody gives up, since that is doing nothing;                                                                        *)
(* - a promise is told again only to tell more, since who hears a later copy just knows more to be chosen;                *)
(* - a leader counts all acceptances told so far, since who counts fewer of them learns later.                            *)

(* A report comes whole, or with one acceptance in each part; then it is asked for on from where the last part ended. *)
Firsts(n, p) == {p.first} \cup {q.last + 1 : q \in {r \in network.promises : r.node = n /\ r.ballot = p.ballot}}
End(n, first) ==
    LET known == {i \in first .. LastInstance : i > memory[n].watermark /\ memory[n].accepted[i] # Nothing}
    IN  IF CutReports /\ Cardinality(known) > 1 THEN CHOOSE i \in known : \A j \in known : i <= j ELSE LastInstance

(* A promise is told again only to tell more. *)
MayPromise(n, p, first) ==
    \/ p.ballot > memory[n].promised
    \/ /\ p.ballot = memory[n].promised
       /\ p.first < first /\ first <= LastInstance
       /\ waiting[n] = <<>>
       /\ PromiseMessage(n, memory[n], p.ballot, first, End(n, first)) \notin network.promises

(* The promises that a candidate may have heard: any of them. *)
Heard(n) == SUBSET {p \in network.promises : p.ballot = memory[n].lead.ballot}

Next == \E n \in Nodes :
    \/ \E b \in Ballots :
        /\ Owner[b] = n \/ ~IsOn("a ballot has one owner")
        /\ b > memory[n].promised
        /\ Campaign(n, b, End(n, memory[n].watermark + 1))
    \/ \E p \in network.prepares : \E first \in Firsts(n, p) :
        MayPromise(n, p, first) /\ Promise(n, p.ballot, first, End(n, first))
    \/ memory[n].lead.ballot # 0 /\ ~memory[n].lead.leads /\ \E promises \in Heard(n) : Lead(n, promises)
    \/ memory[n].lead.leads /\ \E i \in Instances : \E v \in Wants[n] \cup {NoOp} :
        /\ Obliged(memory[n].lead, i) = NoValue => v \in Wants[n]
        /\ Propose(n, i, v)
    \/ \E a \in network.accepts :
        memory[n].accepted[a.instance].ballot # a.ballot /\ Accept(n, a.ballot, a.instance, a.value)
    \/ memory[n].lead.leads /\ \E a \in network.accepts :
        /\ a.ballot = memory[n].lead.ballot
        /\ memory[n].known[a.instance] = NoValue
        /\ Count(n, a.ballot, a.instance, a.value,
                {each.node : each \in {x \in network.acceptances : x.instance = a.instance
                    /\ (x.ballot = a.ballot \/ ~IsOn("votes are of one ballot"))}})
    \/ Telling /\ \E b \in Ballots : \E upto \in (memory[n].watermark + 1) .. network.told[b] :
        Owner[b] # n /\ Reach(memory[n], b, upto, memory[n].watermark) = upto /\ Hear(n, b, upto)
    \/ Telling /\ \E lesson \in network.lessons : memory[n].known[lesson[1]] = NoValue /\ Learn(n, lesson[1], lesson[2])
    \/ waiting[n] # <<>> /\ Stabilize(n)
    \/ memory[n] # Restored(disk[n]) /\ Restart(n, <<>>, disk[n])

Spec == Init /\ [][Next]_vars

-----------------------------------------------------------------------------
(* What must hold in every state.  Chosen is counted here anew, from what the disks have held, not from what nodes believe. *)

ChosenBy(configuration, i) ==
    LET here == {vote \in votes : vote[3] = i}
    IN  {vote[4] : vote \in {each \in here :
            IsQuorum(configuration, {w[1] : w \in {x \in here : x[2] = each[2] /\ x[4] = each[4]}})}}

RECURSIVE ConfigurationOf(_)
ConfigurationOf(i) ==
    LET changes == {j \in 1 .. (i - Alpha) : ChosenBy(ConfigurationOf(j), j) \cap DOMAIN Changes # {}}
    IN  IF DOMAIN Changes = {} \/ changes = {} THEN Initial
        ELSE LET j == Maximum(changes) IN Changes[CHOOSE v \in ChosenBy(ConfigurationOf(j), j) : v \in DOMAIN Changes]

Chosen(i) == ChosenBy(ConfigurationOf(i), i)

(* Section 2: only a single value is chosen. *)
Agreement == \A i \in Instances : Cardinality(Chosen(i)) <= 1

(* Section 2.2: a proposal is a number and a value, and different proposals have different numbers. *)
OneValueForEachBallot == \A a, b \in network.accepts : a.ballot = b.ballot /\ a.instance = b.instance => a = b

(* Section 2.4: nobody leads under a ballot under which somebody else does. *)
OneLeaderForEachBallot == \A m, n \in Nodes :
    memory[m].lead.ballot = memory[n].lead.ballot /\ memory[m].lead.ballot # 0 => m = n

(* P2b: if a value is chosen, every proposal with a higher number has that value. *)
P2b == \A i \in Instances : LET configuration == ConfigurationOf(i) IN
    \A a \in network.accepts : a.instance = i /\
        IsQuorum(configuration, {vote[1] : vote \in {x \in votes : x[2] = a.ballot /\ x[3] = i}}) =>
            \A b \in network.accepts : b.instance = i /\ b.ballot > a.ballot => b.value = a.value

(* P2c: for every proposal there is a majority none of whose acceptors will accept anything lower any more, and either none *)
(* has, or the value is that of the highest-numbered one that they accepted.                                               *)
P2c == \A a \in network.accepts :
    LET configuration == ConfigurationOf(a.instance)
        below == {vote \in votes : vote[3] = a.instance /\ vote[2] < a.ballot}
    IN  \E quorum \in SUBSET {n \in configuration : disk[n].promised >= a.ballot} :
        /\ IsQuorum(configuration, quorum)
        /\ LET theirs == {vote \in below : vote[1] \in quorum}
           IN  theirs = {} \/ \A vote \in theirs : (\A other \in theirs : vote[2] >= other[2]) => vote[4] = a.value

(* P1, P1a: what was told stays true.  A node that told a promise has it on disk, and has accepted nothing lower that it did *)
(* not report; nor does it remember less than its disk.                                                                     *)
PromisesAreKept ==
    /\ \A p \in network.promises :
        /\ disk[p.node].promised >= p.ballot
        /\ \A vote \in votes :
            (vote[1] = p.node /\ vote[2] < p.ballot /\ vote[3] \in (p.first .. p.last) \ (1 .. p.chosen)) =>
                p.reported[vote[3]].ballot >= vote[2]
    /\ \A n \in Nodes : memory[n].promised >= disk[n].promised

(* P1: an acceptance that was told is on disk. *)
AcceptancesAreKept == \A a \in network.acceptances :
    \E vote \in votes : vote[1] = a.node /\ vote[2] = a.ballot /\ vote[3] = a.instance

(* Section 2.3: only what is chosen is learned. *)
LearnedIsChosen == \A n \in Nodes : \A i \in Instances : memory[n].known[i] # NoValue => memory[n].known[i] \in Chosen(i)

(* P8: what takes effect is everywhere a beginning of the same sequence. *)
OneSequence == \A m, n \in Nodes : \A i \in Instances :
    i <= memory[m].watermark /\ i <= memory[n].watermark =>
        memory[m].known[i] # NoValue /\ memory[m].known[i] = memory[n].known[i]

(* The note of how far everything is chosen comes behind what it speaks of. *)
NotesAreTrue == \A n \in Nodes : LET m == Restored(disk[n]) IN
    disk[n].chosen <= m.watermark /\ \A i \in 1 .. disk[n].chosen : m.known[i] \in Chosen(i)

(* Others are taught the latest record of an instance: when the disk is done, that is what was chosen. *)
WhatIsTaughtIsChosen == \A n \in Nodes :
    LET d == WriteAll(disk[n], waiting[n]) IN \A i \in 1 .. memory[n].watermark : d.latest[i] = memory[n].known[i]

=============================================================================
