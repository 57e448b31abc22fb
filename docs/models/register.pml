/* One write-once register: N voters, quorum Q, P proposers with R ballots each.
 *
 *   -DN=3 -DQ=3      voters and quorum
 *   -DP=2 -DR=2      proposers, ballots of each
 *   -DLOSSES=1       disks that may be lost: a voter then forgets everything (it comes back as
 *                    a new identity in the same place)
 *   -DMUTANT=1       acceptors accept below their promise
 *   -DMUTANT=2       proposers do not go on with accepted values
 *   -DMUTANT=3       a voter answers first and writes later: a crash forgets its last answer
 *
 * Any request and any answer may get lost, any proposer may stop for ever, all steps interleave.
 * Checked: no two values are ever chosen. A value is chosen when Q voters have accepted it in one
 * ballot, whether or not their answers arrive, or when its proposer has Q answers.
 */
#ifndef N
#define N 3
#endif
#ifndef Q
#define Q 3
#endif
#ifndef P
#define P 2
#endif
#ifndef R
#define R 2
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef MUTANT
#define MUTANT 0
#endif

byte promised[N], acceptedBallot[N], acceptedValue[N];
#if MUTANT == 3
byte oldPromised[N], oldBallot[N], oldValue[N];
#define REMEMBER(a) oldPromised[a] = promised[a]; oldBallot[a] = acceptedBallot[a]; \
    oldValue[a] = acceptedValue[a]
#else
#define REMEMBER(a) skip
#endif
byte chosen = 0;

inline choose(value) {
    assert(chosen == 0 || chosen == value);
    chosen = value
}

inline countAcceptances(ballot, value, i, votes) {
    i = 0; votes = 0;
    do
    :: i < N -> if :: acceptedBallot[i] == ballot -> votes++ :: else fi; i++
    :: else -> break
    od;
    if :: votes >= Q -> choose(value) :: else fi;
    i = 0; votes = 0
}

proctype Proposer(byte me) {
    byte attempt = 0, ballot, voter, answers, newest, value, i, votes;
    do
    :: attempt >= R -> break
    :: attempt < R ->
        ballot = me + attempt * P; attempt++;
        answers = 0; newest = 0; value = me; voter = 0;
        do
        :: voter >= N -> break
        :: voter < N ->
            if
            :: atomic { promised[voter] < ballot ->
                REMEMBER(voter);
                promised[voter] = ballot; answers++;
                if
                :: MUTANT != 2 && acceptedBallot[voter] > newest ->
                    newest = acceptedBallot[voter]; value = acceptedValue[voter]
                :: else
                fi }
            :: atomic { promised[voter] < ballot -> promised[voter] = ballot }  /* answer lost */
            :: skip                                                            /* request lost */
            fi;
            voter++
        od;
        if :: answers < Q -> goto next :: else fi;
        answers = 0; voter = 0;
        do
        :: voter >= N -> break
        :: voter < N ->
            if
            :: atomic { promised[voter] <= ballot || MUTANT == 1 ->
                REMEMBER(voter);
                promised[voter] = ballot; acceptedBallot[voter] = ballot;
                acceptedValue[voter] = value; answers++;
                countAcceptances(ballot, value, i, votes) }
            :: atomic { promised[voter] <= ballot || MUTANT == 1 ->
                promised[voter] = ballot; acceptedBallot[voter] = ballot;
                acceptedValue[voter] = value;
                countAcceptances(ballot, value, i, votes) }
            :: skip
            fi;
            voter++
        od;
        if :: answers >= Q -> atomic { choose(value) }; break :: else fi;
next:   if :: true -> skip :: true -> break fi
    od
}

proctype Disks() {
    byte lost = 0, voter;
    do
    :: lost >= LOSSES -> break
    :: lost < LOSSES ->
        lost++;
        select(voter : 0 .. (N - 1));
        atomic { promised[voter] = 0; acceptedBallot[voter] = 0; acceptedValue[voter] = 0 }
    :: break
    od
}

#if MUTANT == 3
proctype Crash() {
    byte voter;
    select(voter : 0 .. (N - 1));
    atomic {
        promised[voter] = oldPromised[voter]; acceptedBallot[voter] = oldBallot[voter];
        acceptedValue[voter] = oldValue[voter] }
}
#endif

init {
    byte i = 1;
    atomic {
        do :: i <= P -> run Proposer(i); i++ :: else -> break od;
        if :: LOSSES > 0 -> run Disks() :: else fi;
#if MUTANT == 3
        run Crash()
#endif
    }
}
