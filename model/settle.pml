/* Settling and edits: who settles what, once, under which definition.
 *
 * One transaction of the store is one step. Dispatchers read, decide and commit against the version; an editor
 * does the same, with a cut; the clock goes on, may go back, and dispatchers may be wrong about it. Anything may
 * stop anywhere. Of what is decided there is only which occurrences are settled, and how far the mark moves.
 *
 * The names in CLAIM are the promises. What they are judged by (`truth`) is kept beside the rows, and no step
 * reads it. docs/explanation/model.md says what of the source each step stands for.
 */

mtype = { NoDoubleFire, NoGap, NeverEarly, EditGoverns, NothingReused, AnswerTrue };
#define CLAIM(name, condition) assert((condition) || name == 0)

#ifndef SCHEDULES
#define SCHEDULES 1
#endif
#ifndef EDITS
#define EDITS 2
#endif
#ifndef CRASHES
#define CRASHES 1 /* of a dispatcher, between its read and its commit */
#endif
#ifndef SLIPS
#define SLIPS 1 /* how often a dispatcher's clock is one ahead */
#endif
#ifndef SETBACKS
#define SETBACKS 0 /* how often the store's clock goes back by one */
#endif
#ifndef LOST_REPLIES
#define LOST_REPLIES 1 /* to the editor, who sends the same edit again */
#endif
#ifndef PURGES
#define PURGES 0
#endif

/* Instants are 2 to 6. Occurrences are 3, 4 and 5, as bits of a mask. A definition has some of them, and one
 * offset: its occurrence n is due at n + offset. NEW says which definitions an edit may bring. */
#define FIRST 2
#define LAST 6
#define INCARNATIONS 3

#ifndef BEGUN
#define BEGUN 0
#endif
#ifndef NEW_MAX
#define NEW_MAX 3
#endif
#define OCCURRENCES(d) ((d) == 1 -> 48 : ((d) == 2 || (d) == 5 -> 56 : 40))
#define OFFSET(d) ((d) == 3 || (d) == 5 -> 1 : ((d) == 4 -> 2 : 0))

#define MAX(a, b) ((a) > (b) -> (a) : (b))
#define UPTO(t) ((1 << ((t) + 1)) - 1)
#define AFTER(t) (127 & ~UPTO(t))
#define NEWEST(m) ((m) & 32 -> 5 : ((m) & 16 -> 4 : ((m) & 8 -> 3 : 0)))
#define OLDEST(m) ((m) & 8 -> 8 : ((m) & 16 -> 16 : (m) & 32))

#ifdef BREAK_OFFSET_PER_OCCURRENCE /* 3 is due two later than its neighbours */
#define DUE(d, t) (OCCURRENCES(d) & ((UPTO(t) & 48) | (UPTO((t) - 2) & 8)))
#else
#define DUE(d, t) (OCCURRENCES(d) & UPTO((t) - OFFSET(d)))
#endif

typedef Row {
    bool alive;
    bool paused;
    byte definition;
    byte incarnation;
    byte version;
    byte mark; /* settled_until */
    byte skips;
    byte last_edit; /* the last edit that the trail holds */
}

typedef Truth { /* what was settled, by incarnation, and what had to be */
    byte fired[INCARNATIONS];
    byte skipped[INCARNATIONS];
    byte must_fire[INCARNATIONS];
    byte must_skip[INCARNATIONS];
    byte listed; /* to be skipped when they come */
    byte from;   /* the definition in force governs what comes after it */
}

typedef Seen {
    bool due;
    byte definition;
    byte incarnation;
    byte version;
    byte mark;
    byte fires;
    byte skips;
}

Row row[SCHEDULES];
Truth truth[SCHEDULES];
byte runs[SCHEDULES]; /* the rows of runs that were not purged */
byte now = FIRST;
byte setbacks, slips, crashes;

/* Scratch: it means nothing between two steps, so it is no part of the state. */
hidden byte s, i, k, under, firing, skipping, won, owed, jumped, boundary, reach;

#ifdef BREAK_MARK_FROM_RUNS
#define MARK(s) MAX(FIRST, NEWEST(runs[s]))
#else
#define MARK(s) row[s].mark
#endif
#ifdef BREAK_CAS
#define STANDS(s) (seen[s].due)
#else
#define STANDS(s) (seen[s].due && row[s].version == seen[s].version)
#endif
#define OWED(s, t) (DUE(row[s].definition, t) & AFTER(MARK(s)))
#define IS_DUE(s, t) (row[s].alive && !row[s].paused && OWED(s, t) != 0)
#if SCHEDULES == 1
#define ANY_DUE(t) IS_DUE(0, t)
#else
#define ANY_DUE(t) (IS_DUE(0, t) || IS_DUE(1, t))
#endif

/* Leave `firing` and `skipping` settled, decided under definition `under` of incarnation `k`. */
inline leave(which) {
    CLAIM(NothingReused, k == row[which].incarnation);
    CLAIM(NoDoubleFire, ((truth[which].fired[k] | truth[which].skipped[k]) & (firing | skipping)) == 0);
#ifdef BREAK_OFFSET_PER_OCCURRENCE
    CLAIM(NeverEarly, (firing & ~DUE(under, now)) == 0);
#else
    CLAIM(NeverEarly, (firing & AFTER(now + setbacks - OFFSET(under))) == 0);
#endif
    truth[which].fired[k] = truth[which].fired[k] | firing;
    truth[which].skipped[k] = truth[which].skipped[k] | skipping;
    runs[which] = (PURGES > 0 -> runs[which] | firing : 0)
}

proctype clock() {
end:
    do
    :: atomic { now < LAST -> now++; printf("the clock: %d\n", now) }
    :: atomic { setbacks < SETBACKS && now > FIRST -> setbacks++; now--; printf("the clock goes back: %d\n", now) }
    od
}

/* --- a dispatcher --- */

inline read(t) {
    for (s : 0 .. SCHEDULES - 1) {
        if
        :: IS_DUE(s, t) ->
            owed = OWED(s, t);
            seen[s].due = true;
            seen[s].definition = row[s].definition;
            seen[s].incarnation = row[s].incarnation;
            seen[s].version = row[s].version;
            seen[s].mark = MAX(row[s].mark, NEWEST(owed));
            seen[s].fires = owed & ~row[s].skips;
            seen[s].skips = owed & row[s].skips;
            printf("dispatcher %d at %d reads %d: version %d, owed %d\n", me, t, s, seen[s].version, owed)
        :: else
        fi
    }
    read_at = t
}

inline forget() {
    for (s : 0 .. SCHEDULES - 1) {
        seen[s].due = false; seen[s].definition = 0; seen[s].incarnation = 0; seen[s].version = 0;
        seen[s].mark = 0; seen[s].fires = 0; seen[s].skips = 0
    }
    read_at = 0
}

inline take() {
    k = seen[s].incarnation; under = seen[s].definition; firing = seen[s].fires; skipping = seen[s].skips
}

inline commit() {
    won = 0;
    for (s : 0 .. SCHEDULES - 1) {
        if
        :: STANDS(s) ->
            printf("dispatcher %d settles %d: fires %d, skips %d\n", me, s, seen[s].fires, seen[s].skips);
            CLAIM(EditGoverns, seen[s].incarnation != row[s].incarnation ||
                (row[s].alive && !row[s].paused && seen[s].definition == row[s].definition));
            take(); leave(s);
            row[s].version++;
            row[s].mark = MAX(row[s].mark, seen[s].mark);
            row[s].skips = row[s].skips & AFTER(row[s].mark);
            won++
#ifdef BREAK_LOSERS
        :: seen[s].due && !STANDS(s) && won > 0 ->
            printf("dispatcher %d leaves runs of %d, which it lost\n", me, s);
            take(); leave(s)
        :: seen[s].due && !STANDS(s) && won == 0
        :: !seen[s].due
#else
        :: else
#endif
        fi
    }
}

proctype dispatcher(byte me) {
    Seen seen[SCHEDULES];
    byte read_at;
end:
    do
    :: atomic { read_at == 0 && ANY_DUE(now) -> read(now) }
    :: atomic { read_at == 0 && slips < SLIPS && ANY_DUE(now + 1) -> slips++; read(now + 1) }
#ifdef BREAK_EARLY
    :: atomic { read_at > 0 -> commit(); forget() }
#else
#ifdef BREAK_NO_REREAD
    :: atomic { read_at > 0 && read_at <= now && STANDS(0) -> commit(); forget() }
    :: read_at > 0 && read_at <= now && !STANDS(0) /* it tries the same again, for ever */
#else
    :: atomic { read_at > 0 && read_at <= now -> commit(); forget() }
#endif
    :: atomic { read_at > now -> printf("dispatcher %d is told: early\n", me); forget() }
#endif
    :: atomic { read_at > 0 && crashes < CRASHES -> crashes++; printf("dispatcher %d crashes\n", me); forget() }
    od
}

/* --- an editor of schedule 0 --- */

mtype = { none, edit, pause, resume, delete, create, skip_next };

/* What the old definition had to settle, by its own law, and from where on the new one governs. What was settled
 * before the clock went back was settled by the old one. */
inline judge(new) {
    k = row[0].incarnation;
    if
    :: row[0].alive ->
        reach = cut - OFFSET(row[0].definition);
        if
        :: setbacks > 0 -> reach = MAX(reach, NEWEST(truth[0].fired[k] | truth[0].skipped[k]))
        :: else
        fi;
        owed = OCCURRENCES(row[0].definition) & AFTER(truth[0].from) & UPTO(MAX(reach, cut - OFFSET(new)));
        firing = (row[0].paused -> 0 : owed & ~truth[0].listed & (UPTO(reach) | OCCURRENCES(new)));
        truth[0].must_fire[k] = truth[0].must_fire[k] | firing;
        truth[0].must_skip[k] = truth[0].must_skip[k] | (owed & ~firing);
        truth[0].from = MAX(truth[0].from, NEWEST(owed))
    :: else
    fi;
    truth[0].from = MAX(truth[0].from, cut - OFFSET(new))
}

/* Settle what the old definition owed at the cut; find the boundary behind it. */
inline settle_old(new) {
    k = row[0].incarnation;
    owed = 0; jumped = 0;
    if
    :: row[0].alive ->
#ifndef BREAK_EDIT_NO_SETTLE
        owed = OWED(0, cut);
#endif
        boundary = MAX(row[0].mark, NEWEST(owed));
#if !defined(BREAK_EDIT_MARK_CUT) && !defined(BREAK_EDIT_MARK_KEPT) && !defined(BREAK_EDIT_DROPS_PENDING)
        jumped = OCCURRENCES(row[0].definition) & AFTER(MAX(boundary, cut - OFFSET(row[0].definition))) &
            UPTO(cut - OFFSET(new));
#endif
        under = row[0].definition;
        firing = (row[0].paused -> 0 : owed & ~row[0].skips);
        skipping = owed & ~firing;
        leave(0);
        under = new; /* not early under the new offset */
        firing = (row[0].paused -> 0 : jumped & ~row[0].skips & OCCURRENCES(new));
        skipping = jumped & ~firing;
        leave(0);
        boundary = MAX(boundary, NEWEST(jumped))
    :: else ->
        boundary = row[0].mark
    fi;
#if defined(BREAK_EDIT_MARK_CUT)
    boundary = MAX(boundary, cut)
#elif defined(BREAK_EDIT_MARK_DUE)
    boundary = cut - OFFSET(new)
#elif !defined(BREAK_EDIT_MARK_KEPT)
    boundary = MAX(boundary, cut - OFFSET(new))
#endif
}

inline put() {
    printf("the editor's change %d: kind %e, definition %d, cut %d\n", edits + 1, op, new, cut);
    judge(new);
    settle_old(new);
    row[0].mark = boundary;
    row[0].version++;
    row[0].last_edit = edits + 1;
    row[0].skips = row[0].skips & AFTER(boundary);
    if
    :: op == pause -> row[0].paused = true
    :: op == resume -> row[0].paused = false
    :: op == delete -> row[0].alive = false; row[0].skips = 0; truth[0].listed = 0
    :: op == create ->
        row[0].alive = true; row[0].paused = false; row[0].incarnation++; runs[0] = 0;
#ifdef BREAK_VERSION_REUSED
        row[0].version = 1
#endif
    :: op == skip_next ->
        owed = OCCURRENCES(new) & AFTER(MAX(boundary, cut - OFFSET(new))) & ~row[0].skips;
        truth[0].listed = truth[0].listed | OLDEST(owed);
#ifdef BREAK_SKIP_MOVES_MARK
        firing = 0; skipping = OLDEST(owed); leave(0);
        row[0].mark = MAX(boundary, NEWEST(OLDEST(owed)))
#else
        row[0].skips = row[0].skips | OLDEST(owed)
#endif
    :: else
    fi;
    row[0].definition = new
}

proctype editor() {
    mtype op = none;
    byte edits, version, cut, new, replies;
    bool committed;
end:
    do
    :: edits < EDITS && op == none -> atomic {
            version = row[0].version;
            cut = now;
            new = row[0].definition;
            if
            :: row[0].alive -> op = edit; select(new : 0 .. NEW_MAX)
            :: row[0].alive -> op = pause
            :: row[0].alive -> op = resume
            :: row[0].alive -> op = delete
            :: row[0].alive -> op = skip_next
            :: !row[0].alive && row[0].incarnation + 1 < INCARNATIONS -> op = create; select(new : 0 .. 1)
            :: edits = EDITS; op = none /* no further change */
            fi
        }
    :: op != none -> atomic {
            if
#ifndef BREAK_EDIT_ID
            :: row[0].last_edit == edits + 1 ->
                printf("the editor is told: repeated\n");
                committed = false; edits++; op = none
            :: row[0].last_edit != edits + 1 && (row[0].version != version || now > cut + 1) ->
#else
            :: row[0].version != version || now > cut + 1 ->
#endif
                printf("the editor is told: stale\n");
                CLAIM(AnswerTrue, !committed);
                op = none
            :: row[0].last_edit != edits + 1 && row[0].version == version && now <= cut + 1 ->
                atomic { put() };
                if
                :: committed = false; edits++; op = none
                :: replies < LOST_REPLIES -> replies++; committed = true; printf("the reply is lost\n")
                fi
            fi;
            if
            :: op == none -> version = 0; cut = 0; new = 0
            :: else
            fi
        }
    od
}

#if PURGES > 0
proctype purger() {
    byte purges;
end:
    do
    :: atomic { purges < PURGES && runs[0] != 0 -> purges++; runs[0] = 0; printf("runs are purged\n") }
    od
}
#endif

/* --- the end of the world: nobody can do anything any more --- */

#ifndef LIVENESS
proctype rest() {
    timeout;
    atomic {
        for (s : 0 .. SCHEDULES - 1) {
            if
            :: row[s].alive && !row[s].paused -> /* an open pause explains what it covers */
                owed = OCCURRENCES(row[s].definition) & AFTER(truth[s].from) & UPTO(LAST - OFFSET(row[s].definition));
                firing = owed & ~truth[s].listed;
                truth[s].must_fire[row[s].incarnation] = truth[s].must_fire[row[s].incarnation] | firing;
                truth[s].must_skip[row[s].incarnation] = truth[s].must_skip[row[s].incarnation] | (owed & ~firing)
            :: else
            fi;
            for (i : 0 .. INCARNATIONS - 1) {
                owed = truth[s].must_fire[i] | truth[s].must_skip[i];
                CLAIM(NoGap, (owed & ~(truth[s].fired[i] | truth[s].skipped[i])) == 0);
                CLAIM(EditGoverns, truth[s].fired[i] == truth[s].must_fire[i] && truth[s].skipped[i] == truth[s].must_skip[i])
            }
        }
    }
}
#endif

init {
    atomic {
        for (s : 0 .. SCHEDULES - 1) {
            row[s].alive = true;
            row[s].version = 1;
            row[s].definition = (s == 0 -> BEGUN : 2);
            row[s].mark = FIRST - OFFSET(row[s].definition);
            truth[s].from = row[s].mark
        }
        run clock();
        run dispatcher(0);
        run dispatcher(1);
        run editor();
#if PURGES > 0
        run purger();
#endif
#ifndef LIVENESS
        run rest()
#endif
    }
}

#ifdef LIVENESS
/* Not <>[] nothing is due: something is due again and again, though time and trouble have ended and nobody is
 * stopped for ever. */
never Settled {
again:
    do
    :: ANY_DUE(now) -> goto accept_due
    :: true
    od;
accept_due:
    goto again
}
#endif
