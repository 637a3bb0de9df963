"""What else a preset's calls send; and the demo model is sampled as its makers advise, and comes to an end."""

from django.db import migrations, models

import llmproviders.models

# The model card's temperature and top_p; without a penalty a model of this size repeats itself to the last token.
LOCAL = {"max_tokens": 300, "temperature": 0.2, "parameters": {"top_p": 0.9, "repeat_penalty": 1.15}}
BEFORE = {"max_tokens": None, "temperature": None, "parameters": {}}


def _change(apps, schema_editor, *, old, new):
    presets = apps.get_model("llmproviders", "Preset").objects.using(schema_editor.connection.alias)
    for preset in presets.filter(type="local", backend="embedded", model="SmolLM2-135M-Instruct"):
        if all(getattr(preset, name) == value for name, value in old.items()):
            for name, value in new.items():
                setattr(preset, name, value)
            preset.save(update_fields=[*new])


def sample(apps, schema_editor):
    _change(apps, schema_editor, old=BEFORE, new=LOCAL)


def unsample(apps, schema_editor):
    _change(apps, schema_editor, old=LOCAL, new=BEFORE)


class Migration(migrations.Migration):
    dependencies = [("llmproviders", "0003_exact_names")]
    operations = [
        migrations.AddField(
            model_name="preset",
            name="parameters",
            field=models.JSONField(
                blank=True,
                default=dict,
                help_text=(
                    'What else every call sends, as JSON: {"top_p": 0.9}. null leaves one out '
                    '({"temperature": null}), and {"max_tokens": "max_completion_tokens"} sends the bound of the '
                    "answer under that name."
                ),
                validators=[llmproviders.models.parameters_are_valid],
                verbose_name="parameters",
            ),
        ),
        migrations.RunPython(sample, unsample),
    ]
