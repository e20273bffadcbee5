package schedule

import (
	"testing"
	"time"
)

func BenchmarkNext(b *testing.B) {
	zone := mustZone(b, "Europe/Berlin")
	for name, expression := range map[string]string{
		"often": "cron(0/5 * * * ? *)", "monthly": "cron(30 2 ? * SUN#1 *)", "rare": "cron(0 0 29W 2 ? 2096)", "never": "cron(0 0 31 4 ? *)",
	} {
		timetable := must(b, expression, Window, Terms{Zone: zone})
		b.Run(name, func(b *testing.B) {
			after := tuesday
			for b.Loop() {
				timetable.Next(after)
				after = after.Add(time.Minute)
			}
		})
	}
}
