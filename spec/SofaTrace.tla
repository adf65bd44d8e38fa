------------------------------ MODULE SofaTrace ------------------------------
(***************************************************************************)
(* Whether a run that was observed is a run of SofaPaxos.                   *)
(*                                                                          *)
(* Trace is what was observed, a sequence of steps, each a record.  A step  *)
(* says which action was taken, with all that the action leaves open: so    *)
(* TLC walks a line.  It gets to the end if the run is one that SofaPaxos   *)
(* allows, and otherwise stops before the first step that is not allowed,   *)
(* having printed why.  The depth of its search is how far it got.          *)
(*                                                                          *)
(* What is observed of a step beyond what determines it must agree with     *)
(* what SofaPaxos says: which records become stable, what is reported, what *)
(* is read back after a crash, and what is handed to the state machine.     *)
(*                                                                          *)
(* src/sofadb/sim/conformance.py writes traces, and has the words for each  *)
(* step.                                                                    *)
(***************************************************************************)
EXTENDS SofaPaxos

CONSTANT Trace

VARIABLES
    position,       \* The next step.
    up,             \* The nodes that run.
    delivered       \* Of each node: up to where it has handed values to its state machine, in this life.

Whole(last) == IF last = 0 THEN LastInstance ELSE last  \* 0: the report is complete.

Reported(n, first, last) ==
    LET m == memory[n]
        known == {i \in first .. last : i > m.watermark /\ m.accepted[i] # Nothing}
    IN  {<<i, m.accepted[i].ballot, m.accepted[i].value>> : i \in known}

ReportIsRight(s) ==
    /\ Because(s.step = "promise" \/ s.first = memory[s.node].watermark + 1,
               "a campaign is for all that is not known to be chosen")
    /\ Because(s.chosen = memory[s.node].watermark, "the promise tells another watermark than the node has")
    /\ Because(s.reported = Reported(s.node, s.first, Whole(s.last)),
               "the promise does not report what the node has accepted (phase 1b)")

(* Which of the promises sent a leader rests on. *)
Named(s) == {p \in network.promises : p.ballot = s.ballot /\ <<p.node, p.first, p.last, p.chosen>> \in
    {<<q[1], q[2], Whole(q[3]), q[4]>> : q \in s.promises}}

ItLeads(s) ==
    /\ Because(memory[s.node].lead.ballot = s.ballot, "the node does not campaign for this ballot")
    /\ Because(Cardinality(Named(s)) = Cardinality(s.promises),
               "a promise on which the leader rests was not sent, or not for this ballot")
    /\ Lead(s.node, Named(s))

ItProposes(s) ==
    /\ Because(memory[s.node].lead.ballot = s.ballot, "the node does not lead under this ballot")
    /\ Propose(s.node, s.instance, s.value)

(* The leader has heard one more acceptance. *)
ItCounts(s) ==
    LET of == {a \in network.accepts : a.ballot = s.ballot /\ a.instance = s.instance}
        accept == CHOOSE a \in of : TRUE
        votersTold == {a.node : a \in {x \in network.acceptances : x.ballot = s.ballot /\ x.instance = s.instance}}
    IN  /\ Because(of # {}, "nothing was proposed under this ballot for this instance")
        /\ Because(s.voters \subseteq votersTold, "an acceptance that the leader counts was never told")
        /\ IF IsQuorum(ConfigurationAt(memory[s.node], s.instance), s.voters)
           THEN Count(s.node, s.ballot, s.instance, accept.value, s.voters)
           ELSE UNCHANGED vars

ItStabilizes(s) ==
    LET r == Head(waiting[s.node]).record
    IN  /\ Because(waiting[s.node] # <<>>, "no record is on its way to this disk")
        /\ Because(r = [s.record EXCEPT !.upto = r.upto], "another record is the next on its way to this disk")
        /\ Because(s.record.upto <= r.upto, "the disk notes more to be chosen than the node knew")
        /\ Stabilize(s.node)

(* The disk may have got further than it had said when the node stopped; the note of what is chosen is only a help. *)
ItRestarts(s) ==
    LET n == s.node
        length == Len(waiting[n])
        kept(k) == SubSeq(waiting[n], 1, k)
        read == [promised |-> s.promised, accepted |-> s.accepted, learned |-> s.learned]
        is(d) == [promised |-> d.promised,
                  accepted |-> {<<i, d.accepted[i].ballot, d.accepted[i].value>> :
                                    i \in {j \in Instances : d.accepted[j] # Nothing}},
                  learned |-> {<<i, d.learned[i]>> : i \in {j \in Instances : d.learned[j] # NoValue}}]
        right == {k \in 0 .. length : LET d == WriteAll(disk[n], kept(k)) IN is(d) = read /\ s.chosen <= d.chosen}
        k == Maximum(right)
    IN  /\ Because(right # {}, "what is read back is not what the disk has held (2.5)")
        /\ Restart(n, kept(k), [WriteAll(disk[n], kept(k)) EXCEPT !.chosen = s.chosen])
        /\ up' = up \cup {n}
        /\ delivered' = [delivered EXCEPT ![n] = 0]

ItDelivers(s) ==
    LET m == memory[s.node]
    IN  /\ Because(s.instance = delivered[s.node] + 1, "values take effect in order, each once (P8)")
        /\ Because(s.instance <= m.watermark, "the value is not known to be chosen: what takes effect was never learned")
        /\ Because(m.known[s.instance] \in s.values, "another value is chosen than the one that takes effect")
        /\ delivered' = [delivered EXCEPT ![s.node] = s.instance]
        /\ UNCHANGED <<vars, up>>

Stays == UNCHANGED <<up, delivered>>

Take(s) ==
    CASE s.step = "campaign" -> Campaign(s.node, s.ballot, Whole(s.last)) /\ ReportIsRight(s) /\ Stays
      [] s.step = "promise" -> Promise(s.node, s.ballot, s.first, Whole(s.last)) /\ ReportIsRight(s) /\ Stays
      [] s.step = "lead" -> ItLeads(s) /\ Stays
      [] s.step = "propose" -> ItProposes(s) /\ Stays
      [] s.step = "accept" -> Accept(s.node, s.ballot, s.instance, s.value) /\ Stays
      [] s.step = "count" -> ItCounts(s) /\ Stays
      [] s.step = "hear" -> Hear(s.node, s.ballot, s.chosen) /\ Stays
      [] s.step = "learn" -> Learn(s.node, s.instance, s.value) /\ Stays
      [] s.step = "stable" -> ItStabilizes(s) /\ Stays
      [] s.step = "deliver" -> ItDelivers(s)
      [] s.step = "crash" -> up' = up \ {s.node} /\ UNCHANGED <<vars, delivered>>
      [] s.step = "restart" -> ItRestarts(s)

TraceInit == Init /\ position = 1 /\ up = {} /\ delivered = [n \in Nodes |-> 0]

TraceNext ==
    /\ position <= Len(Trace)
    /\ position' = position + 1
    /\ LET s == Trace[position]
       IN  /\ Because(s.step = "restart" \/ s.node \in up, "the node does not run")
           /\ Because(s.step # "restart" \/ s.node \notin up, "the node runs already")
           /\ Take(s)

TraceSpec == TraceInit /\ [][TraceNext]_<<vars, position, up, delivered>>

=============================================================================
