------------------------------- MODULE Models -------------------------------
(* Small worlds for SofaPaxos; tools/run_spec.py says which belong together. *)
EXTENDS SofaPaxos

CONSTANTS n1, n2, n3, n4, n5, red, blue, gap

One == {n1}
Two == {n1, n2}
Three == {n1, n2, n3}
Five == {n1, n2, n3, n4, n5}

(* Who owns ballots 1, 2, ... *)
InTurn == [b \in 1 .. LastBallot |-> IF b % 2 = 1 THEN n1 ELSE n2]
TheOtherFirst == [b \in 1 .. LastBallot |-> IF b % 2 = 1 THEN n2 ELSE n1]

EverybodyWantsAll == [n \in Nodes |-> {red, blue}]
EachWantsItsOwn == [n \in Nodes |-> IF n = n1 THEN {red} ELSE {blue}]
OnlyOneWantsAChange == [n \in Nodes |-> IF n = n1 THEN {red, blue} ELSE {red}]

(* What blue means, where it means a change of the acceptors. *)
NoChange == [v \in {} |-> {}]
ToTheOther == (blue :> {n2})
OneForAnother == (blue :> {n2, n3})

(* Nobody compares colours.  Nor does anybody compare nodes, but for who owns a ballot. *)
SameColours == Permutations({red, blue})
SameNodes == Permutations({n3, n4, n5})
=============================================================================
