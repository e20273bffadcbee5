// Package failpoint names the points of a job's life at which tests kill or stop
// a process of meshd. Only programs that are built with the tag failpoint have
// them: anywhere else [Enabled] is false and [Hit] is nothing, so that the
// compiler leaves the calls out.
//
// Such a program looks into the directory that its environment names by [Env].
// A point is armed by a file of its name there. The process that comes by renames
// it to NAME.hit, so a point is used up by its first hit, and then does what the
// file's content says:
//
//	(empty)   it kills itself with SIGKILL
//	N         the same, but at the N-th time that the process comes by
//	pause     its goroutine waits until NAME.hit is removed
//
// So a test arms a point while the process runs: a leader that was started anew
// for it would lead no more.
package failpoint

// Env is the environment variable that names the directory.
const Env = "MESHD_FAILPOINT"

// Point is a point's name.
type Point string

// Stage is a moment around the write of something durable.
type Stage string

const (
	// Unwritten: nothing of it is in the file.
	Unwritten Stage = "unwritten"
	// Unsynced: it is in the file, and may be lost with the power.
	Unsynced Stage = "unsynced"
	// Synced: it is durable, and nobody was told yet.
	Synced Stage = "synced"
)

// The points, in the order of a job's life. Table tells where they are.
const (
	CommandUncommitted Point = "command-uncommitted"
	CommandCommitted   Point = "command-committed"
	CommandUnanswered  Point = "command-unanswered"

	BatchUncommitted Point = "batch-uncommitted"
	BatchCommitted   Point = "batch-committed"
	JobsUnsent       Point = "jobs-unsent"
	JobsSent         Point = "jobs-sent"

	JobsAccepted Point = "jobs-accepted"

	ShimUnspawned Point = "shim-unspawned"
	ShimSpawned   Point = "shim-spawned"
	ShimOrdered   Point = "shim-ordered"

	ShimUnclaimed    Point = "shim-unclaimed"
	ShimClaimed      Point = "shim-claimed"
	ScriptUnstarted  Point = "script-unstarted"
	ScriptStarted    Point = "script-started"
	ScriptNoted      Point = "script-noted"
	ScriptExited     Point = "script-exited"
	ScriptReaped     Point = "script-reaped"
	ExitWritten      Point = "exit-written"
	ExitUnsynced     Point = "exit-unsynced"
	ExitSynced       Point = "exit-synced"
	ExitReceived     Point = "exit-received"
	ExitTold         Point = "exit-told"
	CompactUnwritten Point = "compact-unwritten"
	CompactUnsynced  Point = "compact-unsynced"
	CompactSynced    Point = "compact-synced"
	CompactRenamed   Point = "compact-renamed"
	CompactDone      Point = "compact-done"

	ReportUnsent      Point = "report-unsent"
	ReportUncommitted Point = "report-uncommitted"
	ReportCommitted   Point = "report-committed"
	ReportSent        Point = "report-sent"
	ReportNoted       Point = "report-noted"

	WorkerOpened    Point = "worker-opened"
	WorkerRecovered Point = "worker-recovered"
	ResumeBegun     Point = "resume-begun"
	ResumeAbandoned Point = "resume-abandoned"
)

// Journal is the point at a stage of the frame with a record of a kind.
func Journal(kind string, stage Stage) Point {
	return Point("journal-" + kind + "-" + string(stage))
}

// Process is which process comes by a point.
type Process string

const (
	// Leader is the daemon of the node that leads.
	Leader Process = "leader"
	// Daemon is the daemon of the node that runs the job.
	Daemon Process = "daemon"
	// Recovery is that daemon, started anew after it was killed.
	Recovery Process = "recovery"
	// Shim is the process between that daemon and a script.
	Shim Process = "shim"
)

// Row is a line of the table.
type Row struct {
	Point   Point
	Process Process
	// Where says what has just happened and what has not.
	Where string
}

// Table returns every point. A test of the whole program dies at each of them.
func Table() []Row {
	rows := []Row{
		{CommandUncommitted, Leader, "a write by the API is decided, not proposed"},
		{CommandCommitted, Leader, "it is committed, with its answer and audit entry"},
		{CommandUnanswered, Leader, "its answer is made, not sent to the client or the node that forwarded it"},
		{BatchUncommitted, Leader, "the next starts are decided, not proposed"},
		{BatchCommitted, Leader, "they are committed, nothing is sent"},
		{JobsUnsent, Leader, "a node's jobs are about to be sent"},
		{JobsSent, Leader, "the node has answered that it has them"},
		{ReportUncommitted, Leader, "reports are decided on, not proposed"},
		{ReportCommitted, Leader, "they are committed, not acknowledged to the node"},

		{JobsAccepted, Daemon, "jobs are accepted and begin, the leader is not answered"},
		{ShimUnspawned, Daemon, "the start is durable, there is no shim"},
		{ShimSpawned, Daemon, "there is a shim, it has no order"},
		{ShimOrdered, Daemon, "the shim has its order"},
		{ExitReceived, Daemon, "the shim has told how the script ended, the journal does not have it"},
		{ExitTold, Daemon, "the journal has it, and the shim was told so"},
		{CompactUnwritten, Daemon, "the journal is about to be written anew"},
		{CompactUnsynced, Daemon, "the new journal is written, not synced"},
		{CompactSynced, Daemon, "it is synced, the old one is in its place"},
		{CompactRenamed, Daemon, "it is in place, its directory is not synced"},
		{CompactDone, Daemon, "its directory is synced"},
		{ReportUnsent, Daemon, "reports are made, not sent"},
		{ReportSent, Daemon, "the leader has acknowledged them"},
		{ReportNoted, Daemon, "that is noted, not in the journal's file"},

		{ShimUnclaimed, Shim, "the shim has its order, not the step"},
		{ShimClaimed, Shim, "the status file says that the step is this shim's"},
		{ScriptUnstarted, Shim, "the script's file is there, its process is not"},
		{ScriptStarted, Shim, "the script runs, the status file does not say as which process"},
		{ScriptNoted, Shim, "the status file says so"},
		{ScriptExited, Shim, "the script has ended and its outputs are kept, it is a zombie"},
		{ScriptReaped, Shim, "it is reaped, its exit status is in no file"},
		{ExitWritten, Shim, "its exit status is in the status file"},
		{ExitUnsynced, Shim, "no meshd took it over"},
		{ExitSynced, Shim, "the status file is synced instead"},

		{WorkerOpened, Recovery, "the journal is read"},
		{WorkerRecovered, Recovery, "jobs go on where the journal ends"},
		{ResumeBegun, Recovery, "a step that was found started is about to be resumed"},
		{ResumeAbandoned, Recovery, "the status file says that the step was given up, the journal does not"},
	}
	for _, kind := range []string{"accepted", "starting", "step", "rebooting", "cancelling", "finished", "acknowledged"} {
		for _, stage := range []Stage{Unwritten, Unsynced, Synced} {
			rows = append(rows, Row{Journal(kind, stage), Daemon, "a frame of the journal with such a record is " + string(stage)})
		}
	}
	return rows
}
