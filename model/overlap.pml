/* Runs of one schedule: who may make one, who has one, how one ends, and who gets the slot.
 *
 * Dispatchers settle occurrence after occurrence; somebody asks for runs; workers claim, start, renew and finish;
 * a keeper takes over what was lost; somebody cancels; an editor changes the limit. Anything may stop anywhere.
 * One transaction is one step. With FINE those that lock are as many steps as they have statements that matter,
 * as under READ COMMITTED: others see nothing of it before it is committed.
 *
 * The names in CLAIM are the promises. docs/explanation/model.md says what of the source each step stands for.
 */

mtype = { NoDoubleFire, NoGap, OneOutcome, OverlapKept, NoStranded, LeaseKept, AtMostOnce, CancelKept, AnswerTrue };
#define CLAIM(name, condition) assert((condition) || name == 0)

mtype = { skipped, queue_one, queue_all, cancel_running }; /* what overlap does, where there is a limit */
mtype = { waiting, ready, running, succeeded, failed, cancelled };
mtype = { idle, claimed, began, told };

#ifndef POLICY
#define POLICY queue_all
#endif
#ifndef LIMIT
#define LIMIT 1 /* max_running; 0 is none, which is the policy `allow` */
#endif
#ifndef OCCURRENCES
#define OCCURRENCES 2
#endif
#ifndef REQUESTS
#define REQUESTS 1
#endif
#ifndef LAPSES
#define LAPSES 1 /* how often a lease lapses, with its holder dead or only slow */
#endif
#ifndef RETRIES
#define RETRIES 0 /* attempts that fail and are tried again */
#endif
#ifndef LOST_REPLIES
#define LOST_REPLIES 0
#endif
#ifndef CANCELS
#define CANCELS 0
#endif
#ifndef EDITS
#define EDITS 0
#endif
#ifndef CRASHES
#define CRASHES 0 /* of a dispatcher, between its read and its commit */
#endif
#ifndef AT_MOST_ONCE
#define AT_MOST_ONCE 0 /* on_lost is fail */
#endif
#define RUNS (OCCURRENCES + REQUESTS)

#ifdef FINE
#define NEXT_STATEMENT } ; atomic {
#else
#define NEXT_STATEMENT ;
#endif

typedef Run {
    mtype state;
    mtype outcome; /* of the attempt under this token */
    byte token;
    bool lapsed;   /* the store's clock has passed the lease */
    bool started;
    bool cancel;   /* it was asked for while a holder had the run */
    bool locked;
    byte bodies;   /* read by claims alone: how many began */
}

Run runs[RUNS];
byte version, mark, now;
byte limit = LIMIT;
bool locked;
byte lapses, retries, crashes;

/* Scratch: it means nothing between two steps, so it is no part of the state. */
hidden byte n_live, n_waiting, newest, i;

#define IS(r, s) (runs[r].state == s)
#define LIVE(r) (IS(r, ready) || IS(r, running))
#define HOLDS(r, t) (IS(r, running) && runs[r].token == t)

#define ENDED(r) (!IS(r, waiting) && !LIVE(r))
#if RUNS == 2
#define SOME_LOCKED (runs[0].locked || runs[1].locked)
#define UNFINISHED (mark < OCCURRENCES || !ENDED(0) || !ENDED(1))
#elif RUNS == 3
#define SOME_LOCKED (runs[0].locked || runs[1].locked || runs[2].locked)
#define UNFINISHED (mark < OCCURRENCES || !ENDED(0) || !ENDED(1) || !ENDED(2))
#else
#define SOME_LOCKED (runs[0].locked || runs[1].locked || runs[2].locked || runs[3].locked)
#define UNFINISHED (mark < OCCURRENCES || !ENDED(0) || !ENDED(1) || !ENDED(2) || !ENDED(3))
#endif

inline count() {
    n_live = 0; n_waiting = 0; newest = 0;
    for (i : 0 .. RUNS - 1) {
        if
        :: LIVE(i) -> n_live++
        :: IS(i, waiting) -> n_waiting++; newest = i
        :: else
        fi
    }
}

/* In every transaction that adds or frees: who waits comes in, as far as there are slots. */
inline promote() {
    count();
    for (i : 0 .. RUNS - 1) {
        if
        :: IS(i, waiting) && (limit == 0 || n_live < limit) ->
            runs[i].state = ready; n_live++; n_waiting--;
            printf("run %d comes in\n", i)
        :: else
        fi
    }
}

/* Whoever commits leaves nobody waiting beside a free slot. */
inline committed() {
    count();
    CLAIM(NoStranded, n_waiting == 0 || (limit > 0 && n_live >= limit))
}

/* A run that comes to be, ready or waiting. */
inline make(which, how) {
    CLAIM(NoDoubleFire, runs[which].state == 0);
    runs[which].state = how;
    count();
    CLAIM(OverlapKept, how == waiting || limit == 0 || n_live <= limit)
}

/* An end, or another attempt in the same slot. Of outcomes only ends are counted. */
inline finish(which, how) {
    CLAIM(OneOutcome, IS(which, waiting) || LIVE(which));
    runs[which].state = how;
    runs[which].lapsed = false;
    printf("run %d: %e\n", which, how)
}

proctype clock() {
end:
    do
    :: atomic { now < OCCURRENCES -> now++; printf("the clock: %d\n", now) }
    od
}

/* --- a dispatcher: run n − 1 is that of occurrence n --- */

inline cancel_older() {
    for (i : 0 .. RUNS - 1) {
        if
#ifdef BREAK_CANCEL_ONLY_RUNNING
        :: IS(i, waiting) -> finish(i, cancelled)
#else
        :: IS(i, waiting) || IS(i, ready) -> finish(i, cancelled)
#endif
        :: IS(i, running) -> runs[i].cancel = true; printf("run %d is asked to stop\n", i)
        :: else
        fi
    }
    for (i : 0 .. RUNS - 1) {
        CLAIM(CancelKept, !LIVE(i) || runs[i].cancel)
    }
}

/* The rule of overlap for one occurrence, or one request, from what was read. */
inline decide() {
    if
    :: limit == 0 -> fate = ready
    :: limit > 0 && POLICY == cancel_running -> fate = (n_live + n_waiting >= limit -> waiting : ready)
    :: limit > 0 && POLICY != cancel_running && n_live < limit && n_waiting == 0 -> fate = ready
    :: limit > 0 && POLICY != cancel_running && !(n_live < limit && n_waiting == 0) ->
        if
        :: POLICY == skipped -> fate = skipped
        :: POLICY == queue_one && n_waiting > 0 -> fate = queue_one; into = newest
        :: else -> fate = waiting
        fi
    fi
}

#ifdef BREAK_FOLD_UNSEEN
#define FOLDS true
#else
#define FOLDS (fate != queue_one || IS(into, waiting))
#endif
#ifdef BREAK_SETTLE_NO_CAS
#define SAME true
#else
#define SAME (seen == version)
#endif
#define STANDS (!locked && SAME && FOLDS) /* a row that somebody holds is lost, not waited for */

inline commit() {
    printf("dispatcher %d settles %d: %e\n", me, occurrence, fate);
    CLAIM(NoDoubleFire, occurrence == mark + 1);
    CLAIM(NoGap, fate != queue_one || IS(into, waiting));
    if
    :: POLICY == cancel_running && fate == waiting -> cancel_older()
    :: else
    fi;
    if
    :: fate == ready || fate == waiting -> make(occurrence - 1, fate)
    :: else
    fi;
    mark = occurrence;
    version++;
#ifndef BREAK_SETTLE_NO_PROMOTE
    promote();
#endif
    committed()
}

inline forget() {
    has_lock = false; seen = 0; occurrence = 0; into = 0; fate = 0
}

proctype dispatcher(byte me) {
    byte seen, occurrence, into;
    mtype fate;
    bool has_lock;
end:
    do
    :: atomic { occurrence == 0 && mark < now ->
            count();
            seen = version; occurrence = mark + 1;
            decide();
            printf("dispatcher %d reads %d: %d live, %d waiting: %e\n", me, occurrence, n_live, n_waiting, fate)
        }
#ifdef FINE
    :: atomic { occurrence > 0 && !has_lock && STANDS -> locked = true; has_lock = true }
    :: atomic { occurrence > 0 && has_lock -> commit(); locked = false; forget() }
#else
    :: atomic { occurrence > 0 && STANDS -> commit(); forget() }
#endif
    :: atomic { occurrence > 0 && !has_lock && !STANDS -> printf("dispatcher %d lost\n", me); forget() }
    :: atomic { occurrence > 0 && crashes < CRASHES ->
            crashes++;
            printf("dispatcher %d crashes\n", me);
#ifdef FINE
            if /* what it had not committed is rolled back */
            :: has_lock -> locked = false
            :: else
            fi;
#endif
            forget()
        }
    od
}

/* --- who asks for runs: read, admit, commit --- */

#if REQUESTS > 0
proctype requester() {
    byte seen, asked, into, lost;
    mtype fate;
    bool accepted;
end:
    do
    :: atomic { asked < REQUESTS && fate == 0 ->
            count();
            decide();
            seen = version;
#ifdef BREAK_REQUEST_NO_ADMISSION
            fate = ready;
#endif
            if
            :: fate == skipped || fate == queue_one -> /* refused: there is no place for it */
                asked++; fate = 0; seen = 0; into = 0
            :: else
            fi
        }
    :: atomic { fate != 0 && !locked ->
            if
            :: runs[OCCURRENCES + asked].state != 0 -> /* repeated */
                printf("the request is known\n");
                accepted = false; asked++; fate = 0
            :: runs[OCCURRENCES + asked].state == 0 && version != seen ->
                CLAIM(AnswerTrue, !accepted);
                fate = 0
            :: runs[OCCURRENCES + asked].state == 0 && version == seen ->
                printf("a request: %e\n", fate);
                make(OCCURRENCES + asked, fate);
#ifndef BREAK_REQUEST_NO_BUMP
                version++;
#endif
                promote();
                committed();
                if
                :: asked++; fate = 0
                :: lost < LOST_REPLIES -> lost++; accepted = true; printf("the reply is lost\n")
                fi
            fi;
            if
            :: fate == 0 -> seen = 0; into = 0
            :: else
            fi
        }
    od
}
#endif

/* --- transactions that end a run: the schedule's lock first where there is a limit, then the run's, then look --- */

inline lock_schedule() {
    if
    :: limit == 0 -> has_lock = false
    :: limit > 0 && !locked -> locked = true; has_lock = true
    fi
}

/* An edit may have put a limit on the schedule since. Who has the schedule may be waiting for this very run: a
 * database ends such a deadlock, and the whole verb is done again. */
#ifdef BREAK_FINISH_LOCKS_NOT_LATE
#define LATE false
#else
#define LATE (!has_lock && limit > 0)
#endif
#define LOCK_LATE(which) \
    if \
    :: LATE && !locked -> locked = true; has_lock = true \
    :: LATE && locked -> runs[which].locked = false; saw = 0; goto end \
    :: else \
    fi

#ifdef BREAK_LOOK_BEFORE_LOCK
#define LOOK for (i : 0 .. RUNS - 1) { saw = saw | (IS(i, waiting) -> 1 << i : 0) }
#define SAW(r) (saw & (1 << (r)))
#else
#define LOOK skip
#define SAW(r) true
#endif

#define TRANSACTION(which) \
    LOOK; \
    NEXT_STATEMENT \
    lock_schedule(); \
    NEXT_STATEMENT \
    !runs[which].locked -> runs[which].locked = true; \
    NEXT_STATEMENT \
    LOCK_LATE(which); \
    NEXT_STATEMENT \
    runs[which].locked = false

inline unlock() {
    if
    :: has_lock -> locked = false
    :: else
    fi;
    has_lock = false
}

/* A run has ended: its slot goes to who waits. */
inline freed() {
    count();
    for (i : 0 .. RUNS - 1) {
        if
#ifndef BREAK_FINISH_NO_PROMOTE
        :: has_lock && SAW(i) && IS(i, waiting) && (limit == 0 || n_live < limit) ->
            runs[i].state = ready; n_live++;
            printf("run %d comes in\n", i)
#endif
        :: else
        fi
    }
    committed()
}

/* --- a worker --- */

/* Any run that is ready; one that somebody has locked is passed over. */
inline take(which) {
    atomic { phase == idle && IS(which, ready) && !runs[which].locked ->
        runs[which].state = running;
        runs[which].outcome = 0;
        runs[which].token++;
        runs[which].started = false;
        mine = which;
        token = runs[which].token;
        phase = claimed;
        printf("worker %d claims run %d, token %d\n", me, which, token)
    }
}

proctype worker(byte me) {
    byte mine, token, lost, saw;
    mtype phase = idle, out;
    bool has_lock, accepted;
end:
    do
    :: take(0)
    :: take(1)
#if RUNS > 2
    :: take(2)
#endif
#if RUNS > 3
    :: take(3)
#endif
    :: atomic { phase == claimed && !runs[mine].locked ->
            if
            :: HOLDS(mine, token) ->
#ifndef BREAK_START_MARK
                runs[mine].started = true;
#endif
                runs[mine].bodies++;
                printf("worker %d begins run %d\n", me, mine);
                CLAIM(AtMostOnce, !AT_MOST_ONCE || runs[mine].bodies == 1);
                phase = began
            :: else -> phase = idle; mine = 0; token = 0; printf("worker %d may not begin\n", me)
            fi
        }
    :: atomic { (phase == claimed || phase == began) && !runs[mine].locked && HOLDS(mine, token) && runs[mine].lapsed ->
            runs[mine].lapsed = false;
            printf("worker %d renews run %d\n", me, mine)
        }
    :: atomic { phase != idle && lapses < LAPSES ->
            lapses++;
            if
            :: HOLDS(mine, token) -> runs[mine].lapsed = true
            :: else
            fi;
            phase = idle; mine = 0; token = 0; out = 0; accepted = false;
            printf("worker %d dies\n", me)
        }
    :: atomic { phase == began ->
            if
            :: out = succeeded
            :: retries < RETRIES -> retries++; out = failed
            :: runs[mine].cancel -> out = cancelled
            fi;
            phase = told
        }
    :: atomic { phase == told ->
            TRANSACTION(mine);
            if
#ifdef BREAK_FINISH_NO_TOKEN
            :: IS(mine, running) ->
#else
            :: HOLDS(mine, token) ->
#endif
                printf("worker %d finishes run %d, token %d: %e\n", me, mine, token, out);
                CLAIM(OneOutcome, token == runs[mine].token);
                runs[mine].outcome = out;
                if
                :: out == failed && !runs[mine].cancel -> finish(mine, ready); phase = idle
                :: out == failed && runs[mine].cancel -> finish(mine, cancelled); freed(); phase = idle
                :: out != failed ->
                    finish(mine, out);
                    freed();
                    if
                    :: phase = idle
                    :: lost < LOST_REPLIES -> lost++; accepted = true; printf("the reply is lost\n")
                    fi
                fi
#ifndef BREAK_YES_OR_NO
            :: !HOLDS(mine, token) && runs[mine].token == token && runs[mine].outcome == out ->
                printf("worker %d is told: repeated\n", me);
                phase = idle
            :: !HOLDS(mine, token) && !(runs[mine].token == token && runs[mine].outcome == out) ->
#elif defined(BREAK_FINISH_NO_TOKEN)
            :: !IS(mine, running) ->
#else
            :: !HOLDS(mine, token) ->
#endif
                printf("worker %d is refused: run %d, token %d\n", me, mine, token);
                CLAIM(AnswerTrue, !accepted);
                phase = idle
            fi;
            unlock();
            saw = 0;
            if
            :: phase == idle -> mine = 0; token = 0; out = 0; accepted = false
            :: else
            fi
        }
    od
}

/* Some holder is only slow. */
inline lapse(which) {
    atomic { lapses < LAPSES && IS(which, running) && !runs[which].lapsed ->
        lapses++;
        runs[which].lapsed = true;
        printf("the lease of run %d lapses\n", which)
    }
}

proctype time() {
end:
    do
    :: lapse(0)
    :: lapse(1)
#if RUNS > 2
    :: lapse(2)
#endif
#if RUNS > 3
    :: lapse(3)
#endif
    od
}

/* --- who takes over what was lost: list, judge what was read, commit --- */

inline list(run_listed) {
    atomic { verdict == 0 && IS(run_listed, running) && runs[run_listed].lapsed ->
        which = run_listed;
        token = runs[which].token;
        was_started = runs[which].started;
        verdict = (runs[which].cancel -> cancelled : (AT_MOST_ONCE && runs[which].started -> failed : ready));
        printf("run %d, token %d, has lapsed: %e\n", which, token, verdict)
    }
}

#ifdef BREAK_LOST_NO_LEASE_TEST
#define LAPSED(r) true
#else
#define LAPSED(r) runs[r].lapsed
#endif
#ifdef BREAK_LOST_OF_OLD
#define AS_JUDGED(r) true
#else
#define AS_JUDGED(r) (was_started || !runs[r].started)
#endif

proctype keeper() {
    byte which, token, saw;
    mtype verdict;
    bool has_lock, was_started;
end:
    do
#ifdef BREAK_NOBODY_TAKES_OVER
    :: UNFINISHED /* it looks elsewhere, for ever */
#else
    :: list(0)
    :: list(1)
#if RUNS > 2
    :: list(2)
#endif
#if RUNS > 3
    :: list(3)
#endif
#endif
    :: atomic { verdict != 0 ->
            TRANSACTION(which);
            if
            :: HOLDS(which, token) && LAPSED(which) && AS_JUDGED(which) ->
                CLAIM(LeaseKept, runs[which].lapsed);
#ifndef BREAK_CANCEL_FORGOTTEN
                if
                :: runs[which].cancel -> verdict = cancelled
                :: else
                fi;
#endif
                CLAIM(CancelKept, verdict != ready || !runs[which].cancel);
                CLAIM(AtMostOnce, verdict != failed || runs[which].bodies > 0);
                if
                :: verdict == ready -> finish(which, ready)
                :: else -> finish(which, verdict); freed()
                fi
            :: else -> printf("run %d was not lost\n", which)
            fi;
            unlock();
            which = 0; token = 0; saw = 0; verdict = 0; was_started = false
        }
    od
}

/* --- people --- */

#if CANCELS > 0
proctype canceller() {
    byte which, done, saw;
    bool has_lock, asked;
end:
    do
    :: atomic { !asked && done < CANCELS && !ENDED(0) -> which = 0; asked = true }
    :: atomic { !asked && done < CANCELS && !ENDED(1) -> which = 1; asked = true }
    :: atomic { asked ->
            TRANSACTION(which);
            if
            :: IS(which, waiting) || IS(which, ready) -> finish(which, cancelled); freed()
            :: IS(which, running) -> runs[which].cancel = true; printf("run %d is asked to stop\n", which)
            :: else
            fi;
            unlock();
            which = 0; saw = 0; asked = false; done++
        }
    od
}
#endif

#if EDITS > 0
/* Where a limit comes to be, ends under way do not count until they are committed: they are waited for. */
#ifdef BREAK_LIMIT_LOCKS_NO_RUNS
#define WAITED true
#else
#define WAITED (wanted == 0 || limit > 0 || !SOME_LOCKED)
#endif

inline change() {
    limit = wanted;
    version++;
    printf("the limit is %d\n", limit);
#ifndef BREAK_PUT_NO_PROMOTE
    promote();
#endif
    committed();
    edits++; asked = false; seen = 0; wanted = 0
}

proctype editor() {
    byte seen, edits, wanted;
    bool asked, has_lock;
end:
    do
    :: atomic { !asked && edits < EDITS && limit != 0 -> wanted = 0; seen = version; asked = true }
    :: atomic { !asked && edits < EDITS && limit != 1 -> wanted = 1; seen = version; asked = true }
    :: atomic { !asked && edits < EDITS && limit != 2 -> wanted = 2; seen = version; asked = true }
#ifdef FINE
    :: atomic { asked && !has_lock && !locked && version == seen -> locked = true; has_lock = true }
    :: atomic { asked && has_lock && WAITED -> change(); locked = false; has_lock = false }
#else
    :: atomic { asked && version == seen -> change() }
#endif
    :: atomic { asked && !has_lock && !locked && version != seen ->
            asked = false; seen = 0; wanted = 0; printf("the editor is told: stale\n")
        }
    od
}
#endif

/* --- the end of the world: nobody can do anything any more --- */

#ifndef LIVENESS
proctype rest() {
    timeout;
    atomic {
        CLAIM(NoGap, mark == OCCURRENCES);
        for (i : 0 .. RUNS - 1) {
            CLAIM(NoGap, !IS(i, waiting) && !LIVE(i))
        }
    }
}
#endif

init {
    atomic {
        run clock();
        run dispatcher(0);
        run dispatcher(1);
        run worker(0);
        run worker(1);
        run keeper();
        run time();
#if REQUESTS > 0
        run requester();
#endif
#if CANCELS > 0
        run canceller();
#endif
#if EDITS > 0
        run editor();
#endif
#ifndef LIVENESS
        run rest()
#endif
    }
}

#ifdef LIVENESS
/* Not <>[] (all is settled, and every run has ended). */
never Finished {
again:
    do
    :: UNFINISHED -> goto accept_unfinished
    :: true
    od;
accept_unfinished:
    goto again
}
#endif
