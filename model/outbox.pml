/* One run on its way through an engine of others: a publisher, a broker that loses and repeats, a guard.
 *
 * What is in the ledger is authority, the broker is a wake-up. A publisher marks the run `sent` as it claims it, and
 * sends the message after that; a guard in front of the body claims the run from the ledger. Anything may stop
 * anywhere.
 *
 * The names in CLAIM are the promises. docs/explanation/model.md says what of the source each step stands for.
 */

mtype = { NoGap, OneOutcome, LeaseKept, BackoffKept };
#define CLAIM(name, condition) assert((condition) || name == 0)

mtype = { ready, sent, running, succeeded };

#ifndef LOSSES
#define LOSSES 1 /* messages that the broker loses */
#endif
#ifndef COPIES
#define COPIES 1 /* messages that it delivers twice */
#endif
#ifndef CRASHES
#define CRASHES 1 /* of a publisher or a worker; a lease that lapses under a slow one is one too */
#endif
#ifndef FAILURES
#define FAILURES 1 /* attempts that fail and are tried again after a while */
#endif
#ifndef OUTAGES
#define OUTAGES 0 /* guards that cannot reach the store, and drop the message */
#endif
#define ATTEMPTS 4 /* one more than there can be */
#define MESSAGES_MAX 3

mtype state = ready;
byte attempt; /* that were given */
byte token;
bool lapsed;
bool backoff; /* the next attempt is not due yet */
byte message[ATTEMPTS]; /* how many are on their way, by attempt */
byte on_the_way;
byte losses, copies, crashes, failures, outages;

#define HOLDS (state == running && mine == token)

/* Claim for sending, then send: between the two anything may happen, and the message may be very late. */
proctype publisher(byte me) {
    byte which;
#ifdef BREAK_MARK_BLIND
    bool looked;
#endif
end:
    do
#ifdef BREAK_MARK_BLIND
    :: atomic { which == 0 && !looked && state == ready && !backoff -> looked = true }
    :: atomic { looked && state == succeeded -> looked = false }
    :: atomic { looked && state != succeeded ->
            looked = false;
#else
    :: atomic { which == 0 && state == ready && !backoff ->
#endif
            CLAIM(LeaseKept, state != running || lapsed);
            which = attempt + 1;
            state = sent; printf("publisher %d claims attempt %d for sending\n", me, which)
        }
    :: atomic { which > 0 && on_the_way < MESSAGES_MAX ->
            message[which]++; on_the_way++; printf("publisher %d sends attempt %d\n", me, which);
            which = 0
        }
    :: atomic { which > 0 && crashes < CRASHES ->
            crashes++; which = 0; printf("publisher %d dies\n", me)
        }
    od
}

proctype broker() {
    byte which;
end:
    do
    :: atomic { on_the_way > 0 && (losses < LOSSES || (copies < COPIES && on_the_way < MESSAGES_MAX)) ->
            select(which : 1 .. ATTEMPTS - 1);
            if
            :: message[which] > 0 && losses < LOSSES ->
                losses++; message[which]--; on_the_way--; printf("the broker loses attempt %d\n", which)
            :: message[which] > 0 && copies < COPIES && on_the_way < MESSAGES_MAX ->
                copies++; message[which]++; on_the_way++; printf("the broker copies attempt %d\n", which)
            :: else
            fi;
            which = 0
        }
    od
}

#ifdef BREAK_GUARD_ONLY_SENT
#define OPEN (state == sent)
#else
#ifdef BREAK_GUARD_NO_CAS
#define OPEN true
#else
#define OPEN (state == ready || state == sent)
#endif
#endif
#if defined(BREAK_NO_ATTEMPT) || defined(BREAK_GUARD_NO_CAS)
#define WANTED(a) true
#else
#define WANTED(a) (a == attempt + 1)
#endif

/* A message arrives: the guard claims, or the message is dropped. */
inline receive(a) {
    atomic { mine == 0 && message[a] > 0 ->
        message[a]--; on_the_way--;
        if
        :: OPEN && WANTED(a) ->
            CLAIM(BackoffKept, !backoff);
            CLAIM(OneOutcome, state != succeeded);
            CLAIM(LeaseKept, state != running || lapsed);
            state = running; attempt++; token++; lapsed = false;
            mine = token;
            printf("worker %d: the guard claims attempt %d\n", me, attempt)
        :: !(OPEN && WANTED(a)) -> printf("worker %d: the guard ignores attempt %d\n", me, a)
        :: outages < OUTAGES -> outages++; printf("worker %d: the guard cannot reach the store\n", me)
        fi
    }
}

proctype worker(byte me) {
    byte mine;
end:
    do
    :: receive(1)
    :: receive(2)
    :: receive(3)
    :: atomic { HOLDS ->
            state = succeeded; lapsed = false; mine = 0; printf("worker %d succeeds\n", me)
        }
    :: atomic { HOLDS && failures < FAILURES ->
            failures++; state = ready; lapsed = false; backoff = true; mine = 0; printf("worker %d fails\n", me)
        }
    :: atomic { mine > 0 && !HOLDS -> mine = 0; printf("worker %d is refused\n", me) }
    :: atomic { mine > 0 && crashes < CRASHES ->
            crashes++;
            if
            :: HOLDS -> lapsed = true
            :: else
            fi;
            if
            :: mine = 0; printf("worker %d dies\n", me)
            :: printf("worker %d is slow\n", me)
            fi
        }
    od
}

/* Who takes over what was lost, and sends again what got no answer. */
proctype keeper() {
end:
    do
    :: atomic { backoff -> backoff = false; printf("it is due again\n") }
    :: atomic { state == running && lapsed -> state = ready; lapsed = false; printf("it was lost\n") }
#ifndef BREAK_NO_RESEND
    :: atomic { state == sent -> state = ready; printf("it is sent again\n") }
#endif
    od
}

#ifndef LIVENESS
proctype rest() {
    timeout;
    CLAIM(NoGap, state == succeeded)
}
#endif

init {
    atomic {
        run publisher(0);
        run publisher(1);
        run broker();
        run worker(0);
        run worker(1);
        run keeper();
#ifndef LIVENESS
        run rest()
#endif
    }
}

#ifdef LIVENESS
/* Not <> succeeded: it goes on and on, and nobody is stopped for ever. */
never Ends {
accept_not_yet:
    do
    :: state != succeeded
    od
}
#endif
