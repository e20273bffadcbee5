package api

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"
)

func share(t *testing.T, c *ssm.Client, name string, add, remove []string) {
	t.Helper()
	_, err := c.ModifyDocumentPermission(t.Context(), &ssm.ModifyDocumentPermissionInput{Name: &name, PermissionType: "Share", AccountIdsToAdd: add, AccountIdsToRemove: remove})
	if err != nil {
		t.Fatal(err)
	}
}

func TestDocumentPermission(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Greet", greeting("hello"))
	list := func(in ssm.DescribeDocumentPermissionInput) (string, *string) {
		t.Helper()
		in.Name, in.PermissionType = aws.String("Greet"), "Share"
		out, err := c.DescribeDocumentPermission(t.Context(), &in)
		if err != nil {
			t.Fatal(err)
		}
		var infos []string
		for _, i := range out.AccountSharingInfoList {
			infos = append(infos, *i.AccountId+" "+*i.SharedDocumentVersion)
		}
		return strings.Join(out.AccountIds, " ") + "; " + strings.Join(infos, " "), out.NextToken
	}
	share(t, c, "Greet", []string{"222222222222", "All", "111111111111"}, nil)
	if got, _ := list(ssm.DescribeDocumentPermissionInput{}); got != "111111111111 222222222222 all; 111111111111 $DEFAULT 222222222222 $DEFAULT all $DEFAULT" {
		t.Errorf("shared with %s", got)
	}
	first, token := list(ssm.DescribeDocumentPermissionInput{MaxResults: aws.Int32(2)})
	rest, end := list(ssm.DescribeDocumentPermissionInput{MaxResults: aws.Int32(2), NextToken: token})
	if first != "111111111111 222222222222; 111111111111 $DEFAULT 222222222222 $DEFAULT" || rest != "all; all $DEFAULT" || end != nil {
		t.Errorf("pages %q %q", first, rest)
	}
	_, err := c.DeleteDocument(t.Context(), &ssm.DeleteDocumentInput{Name: aws.String("Greet")})
	wantCode(t, err, "InvalidDocumentOperation", "shared with 111111111111, 222222222222, all")
	// Removal counts more than addition.
	share(t, c, "Greet", []string{"333333333333"}, []string{"333333333333", "ALL", "111111111111", "222222222222"})
	if got, _ := list(ssm.DescribeDocumentPermissionInput{}); got != "; " {
		t.Errorf("shared with %s", got)
	}
	modify := func(in ssm.ModifyDocumentPermissionInput) error {
		_, err := c.ModifyDocumentPermission(t.Context(), &in)
		return err
	}
	wantCode(t, modify(ssm.ModifyDocumentPermissionInput{Name: aws.String("Greet"), PermissionType: "Share"}), "ValidationException", "AccountIdsToAdd")
	wantCode(t, modify(ssm.ModifyDocumentPermissionInput{Name: aws.String("None"), PermissionType: "Share", AccountIdsToAdd: []string{"all"}}), "InvalidDocument", "None")
	wantCode(t, modify(ssm.ModifyDocumentPermissionInput{Name: aws.String(shellDocument), PermissionType: "Share", AccountIdsToAdd: []string{"all"}}), "InvalidDocumentOperation", "Amazon")
	for batch := range maxShares/20 + 1 {
		var accounts []string
		for i := range 20 {
			accounts = append(accounts, fmt.Sprintf("%012d", batch*20+i))
		}
		err := modify(ssm.ModifyDocumentPermissionInput{Name: aws.String("Greet"), PermissionType: "Share", AccountIdsToAdd: accounts})
		if batch < maxShares/20 && err != nil {
			t.Fatal(err)
		} else if batch == maxShares/20 {
			wantCode(t, err, "DocumentPermissionLimit", "1000")
		}
	}
}

func TestDocumentTags(t *testing.T) {
	b := newBed(t)
	c := b.ssm(b.leaderURL)
	create(t, c, "Greet", greeting("hello"), func(in *ssm.CreateDocumentInput) {
		in.Tags = []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}
	})
	if _, err := c.AddTagsToResource(t.Context(), &ssm.AddTagsToResourceInput{ResourceType: "Document", ResourceId: aws.String("Greet"), Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.RemoveTagsFromResource(t.Context(), &ssm.RemoveTagsFromResourceInput{ResourceType: "Document", ResourceId: aws.String("Greet"), TagKeys: []string{"a"}}); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"Greet": "b=2", shellDocument: ""} {
		out, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: "Document", ResourceId: &name})
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		for _, tag := range out.TagList {
			got += *tag.Key + "=" + *tag.Value
		}
		if got != want {
			t.Errorf("tags of %s: %q", name, got)
		}
	}
	_, err := c.ListTagsForResource(t.Context(), &ssm.ListTagsForResourceInput{ResourceType: "Document", ResourceId: aws.String("None")})
	wantCode(t, err, "InvalidResourceId", "")
}
