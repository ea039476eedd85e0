package natsbus

// Waiting counts who waits for a change of the table.
func (t *Table) Waiting() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	n := 0
	for _, channels := range t.waiters {
		n += len(channels)
	}
	return n + len(t.decisions)
}

// Indexed counts the keys of the table's indexes.
func (t *Table) Indexed() (users, commands, addresses int) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return len(t.view.byUser), len(t.view.byCommand), len(t.view.byAddress)
}
