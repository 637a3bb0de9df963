"""Which messages show an attachment its uses say alone; the tables stay as they are."""

from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0016_thinking_time_and_stopped_relays"),
    ]

    operations = [
        migrations.RemoveField(
            model_name="attachment",
            name="messages",
        ),
    ]
