package api

import (
	"strconv"

	"github.com/aws/aws-sdk-go-v2/service/ssm"

	"fleetmesh/patcher"
)

// describePatchProperties lists the values that rules may name.
func (c *call) describePatchProperties(in *ssm.DescribePatchPropertiesInput) (*ssm.DescribePatchPropertiesOutput, error) {
	bound := *in
	bound.NextToken, bound.MaxResults = nil, nil
	start, err := c.pageStart(&bound, in.NextToken)
	if err != nil {
		return nil, err
	}
	out := &ssm.DescribePatchPropertiesOutput{Properties: []map[string]string{}}
	from, _ := strconv.Atoi(start)
	values := patcher.PropertyValues(in.OperatingSystem, in.Property, in.PatchSet)
	for i := from; i < len(values); i++ {
		if len(out.Properties) == pageSize(in.MaxResults) {
			out.NextToken, err = c.nextPage(&bound, strconv.Itoa(i))
			return out, err
		}
		out.Properties = append(out.Properties, map[string]string{"Name": values[i]})
	}
	return out, nil
}
