"""What a model can do. Of those that are there nothing is known, so that nothing is refused or said otherwise.

Only the embedded server is known to take no images: it loads no projector for them.
"""

from django.db import migrations, models

import llmproviders.validators


def know_of_the_embedded(apps, schema_editor):
    presets = apps.get_model("llmproviders", "Preset").objects.using(schema_editor.connection.alias)
    presets.filter(backend="embedded").update(takes_images=False)


class Migration(migrations.Migration):

    dependencies = [
        ('llmproviders', '0007_prices_and_fallbacks'),
    ]

    operations = [
        migrations.AddField(
            model_name='preset',
            name='alternates',
            field=models.BooleanField(db_default=False, default=False, help_text='User and assistant have to take turns, the user first: neighbours of one role are joined into one message.', verbose_name='roles take turns'),
        ),
        migrations.AddField(
            model_name='preset',
            name='extra_fields',
            field=models.CharField(blank=True, db_default='', default='', help_text="Fields of the server's own that callers of /v1 may send through, with blanks between them: top_k min_p chat_template_kwargs. All others are passed over.", max_length=1000, validators=[llmproviders.validators.extra_fields_are_valid], verbose_name='extra fields'),
        ),
        migrations.AddField(
            model_name='preset',
            name='reasons',
            field=models.BooleanField(blank=True, help_text='Whether it thinks before it answers. Only shown to whoever chooses a model.', null=True, verbose_name='reasons'),
        ),
        migrations.AddField(
            model_name='preset',
            name='takes_images',
            field=models.BooleanField(blank=True, help_text='“No” refuses messages with images before the model is asked; “unknown” leaves it to its server.', null=True, verbose_name='takes images'),
        ),
        migrations.AddField(
            model_name='preset',
            name='takes_system',
            field=models.BooleanField(db_default=True, default=True, help_text='If not, what the model is told stands before the first message instead.', verbose_name='takes a system prompt'),
        ),
        migrations.AddField(
            model_name='preset',
            name='takes_tools',
            field=models.BooleanField(blank=True, help_text='“No” refuses requests with tools before the model is asked; “unknown” leaves it to its server.', null=True, verbose_name='takes tools'),
        ),
        migrations.RunPython(know_of_the_embedded, migrations.RunPython.noop),
    ]
