/* The outcome of a generation whose claim is decided for one owner: holds, deadline, ready and
 * abandoned, and what may follow.
 *
 *   -DN=3 -DQ=2      voters and quorum
 *   -DR=1            attempts of the owner and of the one who takes over
 *   -DLOSSES=0       disks that may be lost (a new identity in the same place)
 *   -DRESTARTS=1     voters that may start anew: they forget the holds that they granted
 *   -DMUTANT=1       the owner ignores its deadline
 *   -DMUTANT=2       voters ignore holds
 *   -DMUTANT=3       no wait after a start
 *   -DMUTANT=4       proposers do not go on with accepted values
 *   -DMUTANT=5       a voter grants a hold although it has accepted abandoned
 *
 * Time: `valid` is the attempt of the owner whose deadline has not passed, 0 for none. A voter
 * that granted a hold to attempt k keeps abandoned out at least until the deadline of attempt k,
 * since it waits 2L from granting and the owner L from asking; so does one that started while k
 * was valid. Clocks enter the model through this assumption only. `valid` knows one attempt: a
 * hold ends in the model as soon as the owner asks anew, earlier than a voter's timer would end
 * it. This is sound because the owner asks only while its datastore is stopped.
 *
 * Checked: one outcome; nothing runs once abandoned is chosen (so a next generation can begin);
 * nothing starts afterwards.
 */
#ifndef N
#define N 3
#endif
#ifndef Q
#define Q 2
#endif
#ifndef R
#define R 1
#endif
#ifndef LOSSES
#define LOSSES 0
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef MUTANT
#define MUTANT 0
#endif
#define READY 1
#define ABANDONED 2

byte promised[N], acceptedBallot[N], acceptedValue[N];
byte held[N], barrier[N];
byte valid = 0, chosen = 0;
bit running = 0;

#define KEEPS_OUT(a) (MUTANT != 2 && ((held[a] != 0 && held[a] == valid) \
    || (MUTANT != 3 && barrier[a] != 0 && barrier[a] == valid)))

inline choose(value) {
    assert(chosen == 0 || chosen == value);
    chosen = value;
    assert(!(value == ABANDONED && running))
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

/* Writes the register; ends at `failed` or with `value` chosen. */
inline prepareAll() {
    answers = 0; newest = 0; voter = 0;
    do
    :: voter >= N -> break
    :: voter < N ->
        if
        :: atomic { promised[voter] < ballot ->
            promised[voter] = ballot; answers++;
            if
            :: MUTANT != 4 && acceptedBallot[voter] > newest ->
                newest = acceptedBallot[voter]; value = acceptedValue[voter]
            :: else
            fi }
        :: skip
        fi;
        voter++
    od
}

inline acceptAll() {
    answers = 0; voter = 0;
    do
    :: voter >= N -> break
    :: voter < N ->
        if
        :: atomic { promised[voter] <= ballot && (value == READY || !KEEPS_OUT(voter)) ->
            promised[voter] = ballot; acceptedBallot[voter] = ballot;
            acceptedValue[voter] = value; answers++;
            countAcceptances(ballot, value, i, votes) }
        :: skip
        fi;
        voter++
    od
}

proctype Owner() {
    byte attempt = 0, ballot, voter, answers, newest, value, i, votes;
    do
    :: attempt >= R -> break
    :: attempt < R ->
        attempt++;
        if
        :: running && valid != 0 -> skip     /* proposes again under its holds */
        :: atomic { true -> if :: MUTANT != 1 -> running = 0 :: else fi;
            valid = attempt; answers = 0; voter = 0 };      /* the deadline counts from here */
            do
            :: voter >= N -> break
            :: voter < N ->
                if
                :: atomic { acceptedValue[voter] != ABANDONED || MUTANT == 5 ->
                    if :: held[voter] < attempt -> held[voter] = attempt :: else fi; answers++ }
                :: atomic { acceptedValue[voter] != ABANDONED || MUTANT == 5 ->
                    if :: held[voter] < attempt -> held[voter] = attempt :: else fi }
                :: skip
                fi;
                voter++
            od;
            if :: answers < Q -> goto failed :: else fi;
            if
            :: atomic { valid == attempt || MUTANT == 1 -> running = 1;
                assert(chosen != ABANDONED) }
            :: else -> goto failed
            fi
        fi;
        ballot = 2 * attempt; value = READY;
        prepareAll();
        if :: answers < Q -> goto failed :: else fi;
        if :: value == ABANDONED -> atomic { running = 0; valid = 0 } :: else fi;
        acceptAll();
        if :: answers >= Q -> atomic { choose(value) }; break :: else fi;
failed: skip
    od
}

/* The deadline passes, or the owner's machine dies: either way its datastore stops. */
proctype Deadline() {
    byte passed = 0;
    do
    :: passed >= R -> break
    :: atomic { passed < R && valid != 0 && chosen != READY ->
        passed++; valid = 0;
        if :: MUTANT != 1 -> running = 0 :: else fi }
    :: break
    od
}

proctype Taker() {
    byte attempt = 0, ballot, voter, answers, newest, value, i, votes;
    do
    :: attempt >= R -> break
    :: attempt < R ->
        attempt++;
        ballot = 2 * attempt + 1; value = ABANDONED;
        prepareAll();
        if :: answers < Q -> goto failed :: else fi;
        acceptAll();
        if :: answers >= Q -> atomic { choose(value) }; break :: else fi;
failed: skip
    od
}

proctype Disks() {
    byte lost = 0, voter;
    do
    :: lost >= LOSSES -> break
    :: lost < LOSSES ->
        lost++;
        select(voter : 0 .. (N - 1));
        atomic { promised[voter] = 0; acceptedBallot[voter] = 0; acceptedValue[voter] = 0;
            held[voter] = 0; barrier[voter] = valid }
    :: break
    od
}

proctype Restarts() {
    byte done = 0, voter;
    do
    :: done >= RESTARTS -> break
    :: done < RESTARTS ->
        done++;
        select(voter : 0 .. (N - 1));
        atomic { held[voter] = 0; barrier[voter] = valid }
    :: break
    od
}

init {
    atomic {
        run Owner(); run Taker(); run Deadline();
        if :: LOSSES > 0 -> run Disks() :: else fi;
        if :: RESTARTS > 0 -> run Restarts() :: else fi
    }
}
