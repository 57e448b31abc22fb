/* A lease with fencing numbers: one name, its register and the holds, under voters that change.
 *
 *   -DN=3            voters at first; the quorum is their majority
 *   -DR=1            attempts of each of the two candidates
 *   -DRESTARTS=0     voters that may start anew: they forget the holds that they granted
 *   -DCHANGE=0       1: the voters may change once, from N to N + 1
 *   -DMUTANT=1       voters ignore holds
 *   -DMUTANT=2       no wait after a start
 *   -DMUTANT=3       a candidate does not go on from the newest value
 *   -DMUTANT=4       the holder ignores its deadline
 *
 * Time: `valid[c]` is set from the moment a candidate asks for holds until its deadline. A voter's
 * hold outlives the deadline of the request that it answered, since the voter counts 2L from
 * granting and the holder L from asking; so does the wait of a voter that started meanwhile.
 *
 * Checked: two jobs never run at a time, and the numbers under which they start only grow.
 */
#ifndef N
#define N 3
#endif
#ifndef R
#define R 1
#endif
#ifndef RESTARTS
#define RESTARTS 0
#endif
#ifndef CHANGE
#define CHANGE 0
#endif
#ifndef MUTANT
#define MUTANT 0
#endif
#define MOST (N + CHANGE)

byte promised[MOST], acceptedBallot[MOST], number[MOST];
byte heldFor[MOST];           /* 1 + candidate whose hold was granted, 0 for none */
byte heldNumber[MOST];
byte barrier[MOST];           /* candidates that held when the voter started: bit 1, bit 2 */
byte epochOf[MOST];           /* which voters it knows: 0 the first N, 1 all */
bit valid[2], running[2];
byte started = 0;             /* the newest number under which a job began */
byte epoch = 0;               /* what is certified */

#define QUORUM(e) ((N + (e)) / 2 + 1)

#define KEEPS_OUT(v, n) (MUTANT != 1 && ( \
    (heldFor[v] != 0 && valid[heldFor[v] - 1] && (n) > heldNumber[v]) || \
    (MUTANT != 2 && (n) > number[v] && \
        (((barrier[v] & 1) && valid[0]) || ((barrier[v] & 2) && valid[1])))))

proctype Candidate(byte me) {
    byte attempt = 0, ballot, v, answers, newest, mine, e;
    do
    :: attempt >= R -> break
    :: attempt < R ->
        attempt++;
        ballot = 2 * attempt + me;
        e = epoch;
        answers = 0; newest = 0; mine = 0; v = 0;
        do
        :: v >= N + e -> break
        :: v < N + e ->
            if
            :: atomic { epochOf[v] == e && promised[v] < ballot ->
                promised[v] = ballot; answers++;
                if
                :: acceptedBallot[v] > newest && MUTANT != 3 ->
                    newest = acceptedBallot[v]; mine = number[v]
                :: else
                fi }
            :: skip
            fi;
            v++
        od;
        if :: answers < QUORUM(e) -> goto next :: else fi;
        mine++;
        answers = 0; v = 0;
        do
        :: v >= N + e -> break
        :: v < N + e ->
            if
            :: atomic { epochOf[v] == e && promised[v] <= ballot && !KEEPS_OUT(v, mine) ->
                promised[v] = ballot; acceptedBallot[v] = ballot; number[v] = mine;
                answers++ }
            :: skip
            fi;
            v++
        od;
        if :: answers < QUORUM(e) -> goto next :: else fi;
        valid[me] = 1;                       /* the deadline counts from here */
        answers = 0; v = 0;
        do
        :: v >= N + e -> break
        :: v < N + e ->
            if
            :: atomic { epochOf[v] == e && number[v] <= mine &&
                    !(heldFor[v] != 0 && valid[heldFor[v] - 1] && heldNumber[v] > mine) ->
                heldFor[v] = me + 1; heldNumber[v] = mine; answers++ }
            :: skip
            fi;
            v++
        od;
        if :: answers < QUORUM(e) -> atomic { valid[me] = 0 }; goto next :: else fi;
        if
        :: atomic { valid[me] || MUTANT == 4 ->
            assert(!running[1 - me]);
            assert(mine > started);
            started = mine; running[me] = 1 }
        :: else -> goto next
        fi;
        /* The job ends, or the deadline does it. */
        if
        :: atomic { running[me] = 0; valid[me] = 0 }
        :: !valid[me]
        fi;
next:   atomic { valid[me] = 0; if :: MUTANT != 4 -> running[me] = 0 :: else fi }
    od
}

proctype Deadline(byte me) {
    byte passed = 0;
    do
    :: passed >= R -> break
    :: atomic { passed < R && valid[me] -> passed++; valid[me] = 0;
        if :: MUTANT != 4 -> running[me] = 0 :: else fi }
    :: break
    od
}

proctype Restarts() {
    byte done = 0, v;
    do
    :: done >= RESTARTS -> break
    :: done < RESTARTS ->
        done++;
        select(v : 0 .. (N - 1));
        atomic { heldFor[v] = 0; heldNumber[v] = 0; barrier[v] = valid[0] | (valid[1] << 1) }
    :: break
    od
}

#if CHANGE == 1
/* A majority of the first voters agrees to one more; each learns of it when it does. */
proctype Change() {
    byte v = 0, votes = 0;
    do
    :: v >= N -> break
    :: v < N -> if :: votes++ :: skip fi; v++
    od;
    if :: votes < QUORUM(0) -> goto over :: else fi;
    epoch = 1;
    v = 0;
    do
    :: v >= MOST -> break
    :: v < MOST -> if :: epochOf[v] = 1 :: skip fi; v++
    od;
over: skip
}
#endif

init {
    atomic {
        run Candidate(0); run Candidate(1); run Deadline(0); run Deadline(1);
        if :: RESTARTS > 0 -> run Restarts() :: else fi;
#if CHANGE == 1
        run Change()
#endif
    }
}
