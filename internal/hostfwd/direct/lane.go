package direct

// turnCost is what a forward may do in a loop before the next one has its turn, in system calls or
// units of 64 KiB carried. It takes about a millisecond.
const turnCost = 64

// lane is the queue of a forward's work in one loop. The lanes take turns, so that a flood on one
// forward does not delay the others.
type lane struct {
	jobs   []job // from head on
	head   int
	listed bool // is in loop.busy

	asking []caller // waiting for a dial; see dialQueue
	calls  int      // dials under way
	queued bool     // is in dialQueue.lanes
}

// job is an item of work in a lane.
type job interface {
	// work does a part of it. cost is in units of turnCost; more reports whether work is left.
	work(l *loop) (cost int, more bool)
	base() *task
}

// task is common to every job.
type task struct {
	lane   *lane
	queued bool // is in lane.jobs
}

func (t *task) base() *task { return t }

// schedule queues j in its lane, unless it is queued already.
func (l *loop) schedule(j job) {
	t := j.base()
	if t.queued {
		return
	}
	t.queued = true
	t.lane.jobs = append(t.lane.jobs, j)
	if !t.lane.listed {
		t.lane.listed = true
		l.busy = append(l.busy, t.lane)
	}
}

// serve gives each lane that has work one turn.
func (l *loop) serve() {
	round := l.busy
	l.busy = l.spare[:0]
	for i, n := range round {
		n.turn(l)
		round[i] = nil
		if n.listed = n.head < len(n.jobs); n.listed {
			l.busy = append(l.busy, n)
		}
	}
	l.spare = round
}

func (n *lane) turn(l *loop) {
	for left := turnCost; left > 0 && n.head < len(n.jobs); {
		j := n.jobs[n.head]
		n.jobs[n.head] = nil
		n.head++
		j.base().queued = false
		cost, more := j.work(l)
		left -= cost
		if more {
			l.schedule(j)
		}
	}
	if n.head >= len(n.jobs)/2 { // rarely, or when few are left
		rest := copy(n.jobs, n.jobs[n.head:])
		clear(n.jobs[rest:])
		n.jobs, n.head = n.jobs[:rest], 0
	}
}
