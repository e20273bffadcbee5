package patcher

import (
	"fmt"

	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

// Direct sets what is to be done, in SSM's words; no reboot option is RebootIfNeeded.
func (o *Order) Direct(operation, rebootOption string) error {
	switch op := types.PatchOperationType(operation); op {
	case types.PatchOperationTypeScan, types.PatchOperationTypeInstall:
		o.Operation = op
	default:
		return fmt.Errorf("the operation must be Scan or Install, not %q", operation)
	}
	switch option := types.RebootOption(rebootOption); option {
	case "":
		o.RebootOption = types.RebootOptionRebootIfNeeded
	case types.RebootOptionRebootIfNeeded, types.RebootOptionNoReboot:
		o.RebootOption = option
	default:
		return fmt.Errorf("the reboot option must be RebootIfNeeded or NoReboot, not %q", rebootOption)
	}
	return nil
}

// Installs reports whether packages may be installed.
func (o *Order) Installs() bool { return o.Operation == types.PatchOperationTypeInstall }
