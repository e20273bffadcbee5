package executor

import (
	"context"
	"fmt"
)

// Why an action of SSM has no plugin here.
const (
	notYet = "is not in this version of fleetmesh"
	never  = "is not in fleetmesh, and will not be: it needs AWS, or is of Windows alone"
)

// missing are the actions of SSM without a plugin. Documents with them are
// accepted; their steps fail.
var missing = map[string]string{
	"aws:configureDocker":    notYet,
	"aws:configurePackage":   notYet,
	"aws:downloadContent":    notYet,
	"aws:refreshAssociation": notYet,
	"aws:runDockerAction":    notYet,
	"aws:softwareInventory":  notYet,
	"aws:updateSsmAgent":     notYet,

	"aws:applications":    never,
	"aws:cloudWatch":      never,
	"aws:configureDaemon": never,
	"aws:domainJoin":      never,
	"aws:psModule":        never,
	"aws:updateAgent":     never,
}

// missingPlugin fails each step of its action.
type missingPlugin struct{ action, reason string }

func (p missingPlugin) Run(_ context.Context, x *Execution) (Outcome, error) {
	return Outcome{Result: failedStep(x, fmt.Sprintf("The step %s was not run: the plugin %s %s.", x.Name, p.action, p.reason))}, nil
}

func (p missingPlugin) Resume(ctx context.Context, x *Execution) (Outcome, error) {
	return p.Run(ctx, x) // nothing of it can have run
}
