package upkeep

import "time"

// Pace hands out times, so many a second, none in the past. The zero Pace is not usable.
type Pace struct {
	every time.Duration
	next  time.Time
}

// NewPace returns a pace of so many a second, at least one.
func NewPace(perSecond int) *Pace {
	return &Pace{every: time.Second / time.Duration(max(perSecond, 1))}
}

// Next is the next time that is free.
func (p *Pace) Next(now time.Time) time.Time {
	at := p.next
	if at.Before(now) {
		at = now
	}
	p.next = at.Add(p.every)
	return at
}

// End is when the next would be due after all that have been handed out.
func (p *Pace) End() time.Time { return p.next }
