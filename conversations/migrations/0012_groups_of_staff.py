"""Two groups for the staff. Once: what is changed in them afterwards stays as it is, and so does a group of that name
that was there already. Neither may read what was said.
"""

from django.db import migrations, router

SUPPORT = {
    "conversations": (
        "view_overview",
        "stop_generation",
        "view_conversation",
        "change_conversation",
        "delete_conversation",
        "view_generation",
        "view_worker",
        "view_userconfig",
        "view_apikey",
        "change_apikey",
        "view_allowance",
        "view_tokenbudget",
        "view_dailyusage",
        "view_feedback",
    ),
    "llmproviders": ("view_preset",),
}
OPERATORS = {
    "conversations": (
        *SUPPORT["conversations"],
        "add_userconfig",
        "change_userconfig",
        "delete_userconfig",
        "add_apikey",
        "delete_apikey",
        "add_allowance",
        "change_allowance",
        "delete_allowance",
    ),
    "llmproviders": ("view_preset", "add_preset", "change_preset", "delete_preset"),
}
GROUPS = {"Chat support": SUPPORT, "Chat operators": OPERATORS}


def create_groups(apps, schema_editor):
    database = schema_editor.connection.alias
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    if not (router.allow_migrate_model(database, Group) and router.allow_migrate_model(database, Permission)):
        return
    for name, wanted in GROUPS.items():
        group, is_new = Group.objects.using(database).get_or_create(name=name)
        if is_new:
            for label, codenames in wanted.items():
                group.permissions.add(*(ensure_permission(apps, database, label, each) for each in codenames))


def ensure_permission(apps, database, label, codename):
    """Return a permission; one that is not there yet is made as Django would make it, after all migrations."""
    action, _, model = codename.partition("_")
    meta = apps.get_model(label, model)._meta
    name = dict(meta.permissions).get(codename, f"Can {action} {meta.verbose_name}")
    types = apps.get_model("contenttypes", "ContentType").objects.using(database)
    content_type, _ = types.get_or_create(app_label=label, model=model)
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    return permissions.get_or_create(content_type=content_type, codename=codename, defaults={"name": name})[0]


class Migration(migrations.Migration):

    dependencies = [
        ("conversations", "0011_admin_overview"),
        ("llmproviders", "0007_prices_and_fallbacks"),
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    operations = [migrations.RunPython(create_groups, migrations.RunPython.noop, elidable=False)]
