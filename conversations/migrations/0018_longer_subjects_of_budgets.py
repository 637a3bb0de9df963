"""A project's accounts may have longer keys than a number's: a budget's subject is as long as an owner's name.

On the way back, budgets with a longer one have to be deleted first.
"""

import llmproviders.fields
from django.db import migrations


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0017_uses_alone"),
    ]

    operations = [
        migrations.AlterField(
            model_name="tokenbudget",
            name="subject",
            field=llmproviders.fields.ExactCharField(
                help_text="user:<id> or group:<id>.", max_length=255, verbose_name="subject"
            ),
        ),
    ]
