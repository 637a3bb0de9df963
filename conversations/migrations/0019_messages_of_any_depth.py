"""How a deletion goes down a conversation is Python's matter; the tables stay as they are."""

import conversations.models.conversations
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0018_longer_subjects_of_budgets"),
    ]

    operations = [
        migrations.AlterField(
            model_name="message",
            name="parent",
            field=models.ForeignKey(
                blank=True,
                db_index=False,
                null=True,
                on_delete=conversations.models.conversations.cascade_flat,
                related_name="children",
                to="conversations.message",
                verbose_name="answers",
            ),
        ),
    ]
