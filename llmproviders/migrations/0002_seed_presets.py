"""The presets that ship. Undoing takes back only those that still are what was put in."""

from django.db import migrations

PRESETS = [
    {
        "type": "codegeex",
        "name": "CodeGeeX 4",
        "api_url": "http://111.19.168.151:11551/v1/chat/completions",
        "model": "codegeex4-all-9b",
        "api_key": "codegeex",
        "backend": "openai_compatible",
        # The model card of CodeGeeX4-ALL-9B gives 128K; its server may have been started with less.
        "context_window": 131_072,
        "order": 10,
    },
    {
        "type": "glm4",
        "name": "GLM-4 32B",
        "api_url": "http://111.19.168.151:11553/v1/chat/completions",
        "model": "glm4_32B_chat",
        "api_key": "glm432b",
        "backend": "openai_compatible",
        # max_position_embeddings in the configuration of GLM-4-32B-0414 (more needs YaRN).
        "context_window": 32_768,
        "order": 20,
    },
    {
        "type": "local",
        "name": "SmolLM2 135M (demo, English only)",
        "api_url": "",
        "model": "SmolLM2-135M-Instruct",
        "api_key": "",
        "backend": "embedded",
        # llama.context_length in the metadata of the GGUF file.
        "context_window": 8_192,
        "order": 30,
    },
]


def create_presets(apps, schema_editor):
    presets = _presets(apps, schema_editor)
    for preset in PRESETS:
        presets.get_or_create(type=preset["type"], defaults=preset)


def remove_presets(apps, schema_editor):
    presets = _presets(apps, schema_editor)
    for preset in PRESETS:
        presets.filter(**{name: preset[name] for name in ("type", "api_url", "model")}).delete()


def _presets(apps, schema_editor):
    manager = apps.get_model("llmproviders", "Preset").objects
    return manager.using(schema_editor.connection.alias) if schema_editor else manager.all()


class Migration(migrations.Migration):
    dependencies = [("llmproviders", "0001_initial")]
    operations = [migrations.RunPython(create_presets, remove_presets)]
