from django.urls import path

from . import views

app_name = "accounts"

urlpatterns = [
    path("auth/register", views.RegisterView.as_view(), name="register"),
    path("auth/account/delete", views.AccountDeletionView.as_view(), name="delete_account"),
    path("auth/password/change", views.PasswordChangeView.as_view(), name="change_password"),
    path("auth/password/reset", views.PasswordResetRequestView.as_view(), name="request_reset"),
    path("auth/password/reset/confirm", views.PasswordResetView.as_view(), name="reset_password"),
    path("auth/email/verify", views.EmailVerificationView.as_view(), name="verify_email"),
    path("auth/email/resend", views.VerificationRequestView.as_view(), name="request_verification"),
]
