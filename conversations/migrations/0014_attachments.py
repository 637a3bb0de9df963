"""Attachments. The groups of 0012 may see the list of them, as far as they are there and may see conversations."""

import django.db.models.deletion
import django.utils.timezone
import llmproviders.fields
import uuid
from django.conf import settings
from django.db import migrations, models, router

GROUPS = ("Chat support", "Chat operators")


def let_groups_see(apps, schema_editor):
    database = schema_editor.connection.alias
    Group, Permission = apps.get_model("auth", "Group"), apps.get_model("auth", "Permission")
    if not (router.allow_migrate_model(database, Group) and router.allow_migrate_model(database, Permission)):
        return
    # One of that name may be the project's own, with nothing of ours in it.
    groups = Group.objects.using(database).filter(
        name__in=GROUPS,
        permissions__codename="view_conversation",
        permissions__content_type__app_label="conversations",
    )
    for group in groups:
        group.permissions.add(view_permission(apps, database))


def view_permission(apps, database):
    """Return the permission, made as Django would make it, after all migrations."""
    types = apps.get_model("contenttypes", "ContentType").objects.using(database)
    content_type, _ = types.get_or_create(app_label="conversations", model="attachment")
    permissions = apps.get_model("auth", "Permission").objects.using(database)
    return permissions.get_or_create(
        content_type=content_type, codename="view_attachment", defaults={"name": "Can view attachment"}
    )[0]


class Migration(migrations.Migration):

    dependencies = [
        ('conversations', '0013_message_parts'),
        ('auth', '0012_alter_user_first_name_max_length'),
        ('contenttypes', '0002_remove_content_type_name'),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name='FileToDelete',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('name', models.CharField(max_length=255, verbose_name='name')),
                ('due_at', models.DateTimeField(db_index=True, default=django.utils.timezone.now, help_text="What is being written has some time; its row goes once it is an attachment's.", verbose_name='deleted from')),
            ],
            options={
                'verbose_name': 'file to delete',
                'verbose_name_plural': 'files to delete',
            },
        ),
        migrations.CreateModel(
            name='Attachment',
            fields=[
                ('user_identifier', llmproviders.fields.ExactCharField(blank=True, default='', help_text='Empty for nobody, the given user_id on an open server, user:<pk> for an account.', max_length=255, verbose_name='user identifier')),
                ('id', models.UUIDField(default=uuid.uuid4, editable=False, primary_key=True, serialize=False)),
                ('file', models.CharField(editable=False, max_length=255, verbose_name='file')),
                ('content_type', models.CharField(editable=False, max_length=64, verbose_name='type')),
                ('width', models.PositiveIntegerField(editable=False, verbose_name='width')),
                ('height', models.PositiveIntegerField(editable=False, verbose_name='height')),
                ('size', models.PositiveIntegerField(editable=False, verbose_name='bytes')),
                ('created_at', models.DateTimeField(default=django.utils.timezone.now, editable=False, verbose_name='created')),
                ('expires_at', models.DateTimeField(blank=True, db_index=True, editable=False, help_text='Only of unused ones.', null=True, verbose_name='deleted from')),
                ('conversation', models.ForeignKey(blank=True, editable=False, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='attachments', to='conversations.conversation', verbose_name='conversation')),
                ('owner', models.ForeignKey(blank=True, null=True, on_delete=django.db.models.deletion.CASCADE, related_name='+', to=settings.AUTH_USER_MODEL, verbose_name='owner')),
            ],
            options={
                'verbose_name': 'attachment',
                'verbose_name_plural': 'attachments',
            },
        ),
        migrations.CreateModel(
            name='AttachmentUse',
            fields=[
                ('id', models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name='ID')),
                ('attachment', models.ForeignKey(on_delete=django.db.models.deletion.CASCADE, related_name='uses', to='conversations.attachment', verbose_name='attachment')),
                ('message', models.ForeignKey(db_index=False, on_delete=django.db.models.deletion.CASCADE, related_name='attachment_uses', to='conversations.message', verbose_name='message')),
            ],
            options={
                'verbose_name': 'use of an attachment',
                'verbose_name_plural': 'uses of attachments',
            },
        ),
        migrations.AddField(
            model_name='attachment',
            name='messages',
            field=models.ManyToManyField(related_name='attachments', through='conversations.AttachmentUse', to='conversations.message', verbose_name='messages'),
        ),
        migrations.AddConstraint(
            model_name='attachmentuse',
            constraint=models.UniqueConstraint(fields=('message', 'attachment'), name='one_use'),
        ),
        migrations.AddIndex(
            model_name='attachment',
            index=models.Index(fields=['user_identifier', 'size'], name='attachment_owner'),
        ),
        migrations.RunPython(let_groups_see, migrations.RunPython.noop, elidable=False),
    ]
