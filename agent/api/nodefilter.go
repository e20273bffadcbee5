package api

import (
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"fleetmesh/raftstore"
)

const (
	codeInvalidFilterInformation = "InvalidInstanceInformationFilterValue"

	resourceManagedInstance = "ManagedInstance"
	sourceManagedInstance   = "AWS::SSM::ManagedInstance"
)

// nodeView is a node as filters see it.
type nodeView struct {
	raftstore.Node
	pingStatus string
	version    string
}

// nodeFilter is one filter of DescribeInstanceInformation, whichever list it came
// in: the values of one are alternatives, all filters must fit.
type nodeFilter struct {
	key    string
	values []string
}

// parseNodeFilters reads the old filter list and the new one.
func parseNodeFilters(in *ssm.DescribeInstanceInformationInput) ([]nodeFilter, error) {
	if len(in.InstanceInformationFilterList) > 0 && len(in.Filters) > 0 {
		return nil, refuse(codeValidation, "InstanceInformationFilterList and Filters exclude each other: give one of them.")
	}
	var filters []nodeFilter
	for _, f := range in.InstanceInformationFilterList {
		filters = append(filters, nodeFilter{key: string(f.Key), values: f.ValueSet})
	}
	for _, f := range in.Filters {
		filters = append(filters, nodeFilter{key: aws.ToString(f.Key), values: f.Values})
	}
	for i, f := range filters {
		if f.key == "PlatformTypes" { // the old list's name
			filters[i].key = "PlatformType"
		}
		if err := filters[i].check(); err != nil {
			return nil, err
		}
	}
	return filters, nil
}

// enumerated are the filters with few values.
var enumerated = map[string][]string{
	"PingStatus":   {string(types.PingStatusOnline), string(types.PingStatusConnectionLost), string(types.PingStatusInactive)},
	"PlatformType": {string(types.PlatformTypeLinux), string(types.PlatformTypeWindows), string(types.PlatformTypeMacos)},
	"ResourceType": {resourceManagedInstance, string(types.ResourceTypeEc2Instance)},
	"SourceTypes":  {string(types.SourceTypeAwsEc2Instance), string(types.SourceTypeAwsIotThing), sourceManagedInstance},
	"AssociationStatus": {string(types.AssociationStatusNamePending), string(types.AssociationStatusNameSuccess),
		string(types.AssociationStatusNameFailed)},
}

func (f nodeFilter) check() error {
	tag, isTag := strings.CutPrefix(f.key, targetTagPrefix)
	switch {
	case len(f.values) == 0:
		return refuse(codeInvalidFilterInformation, "The filter %s has no values.", f.key)
	case isTag && tag == "":
		return refuse(codeInvalidFilterKey, "The filter tag: names no tag.")
	case isTag:
		return nil
	}
	switch f.key {
	case "ActivationIds", "AgentVersion", "IamRole", "InstanceIds", "SourceIds", targetTagKey:
		return nil
	}
	allowed, ok := enumerated[f.key]
	if !ok {
		return refuse(codeInvalidFilterKey, "The specified filter key %q isn't valid: use ActivationIds, AgentVersion, AssociationStatus, IamRole, InstanceIds, PingStatus, PlatformType, ResourceType, SourceIds, SourceTypes, tag-key or tag:KEY.", f.key)
	}
	for _, value := range f.values {
		if !slices.Contains(allowed, value) {
			return refuse(codeInvalidFilterInformation, "The specified filter value isn't valid: %s is one of %s, not %q.", f.key, strings.Join(allowed, ", "), value)
		}
	}
	return nil
}

// matches reports whether a node passes.
func (f nodeFilter) matches(n nodeView) bool {
	switch f.key {
	case "ActivationIds":
		return slices.Contains(f.values, n.ActivationID)
	case "AgentVersion":
		return slices.Contains(f.values, n.version)
	case "IamRole":
		return slices.Contains(f.values, n.IamRole)
	case "InstanceIds", "SourceIds":
		return slices.Contains(f.values, n.ID)
	case "PingStatus":
		return slices.Contains(f.values, n.pingStatus)
	case "PlatformType":
		return slices.Contains(f.values, n.PlatformType)
	case "ResourceType":
		return slices.Contains(f.values, resourceManagedInstance)
	case "SourceTypes":
		return slices.Contains(f.values, sourceManagedInstance)
	case targetTagKey:
		return slices.ContainsFunc(f.values, func(key string) bool { _, has := n.Tags[key]; return has })
	case "AssociationStatus":
		return false // no node has an association
	}
	value, has := n.Tags[strings.TrimPrefix(f.key, targetTagPrefix)]
	return has && slices.Contains(f.values, value)
}

// namedNodes returns the ids that an InstanceIds filter names.
func namedNodes(filters []nodeFilter) []string {
	var ids []string
	for _, f := range filters {
		if f.key == "InstanceIds" {
			ids = append(ids, f.values...)
		}
	}
	return ids
}
