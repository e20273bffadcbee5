//go:build !failpoint

package failpoint

// Enabled tells whether this program has failpoints.
const Enabled = false

// Hit is called where the process is at the point.
func Hit(Point) {}
