package document

// Task is a step that is ready to run: parameters replaced, preconditions
// evaluated.
type Task struct {
	Name   string
	Action string
	Inputs map[string]any
	// Entries, where there are any, run one after another as this one step; then it
	// has no Inputs.
	Entries []Task
	// Environment is what the step adds to the environment of scripts.
	Environment []string
	// Skip, when set, is why the step does not run and counts as a success; Refuse
	// why it does not run and fails.
	Skip   string
	Refuse string
}
